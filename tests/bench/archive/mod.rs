//! Measures searches in large archives: with and without an index, and with `find` on the same tree, in one run. The
//! results for ten thousand random calls are compared with those of `find`.
//!
//! Latency is that of the search itself, without HTTP; memory is that of a whole agent at the same tree.

#![expect(clippy::print_stdout, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

mod figures;
mod tree;

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use audiovault_agent::{
    auth::Scope,
    storage::{RecordingStorage, StorageSettings},
};
use audiovault_agent_core::{call_id::CallIdRules, pattern::Pattern, query::Query};
use clap::Args;
use rand::{SeedableRng, rngs::SmallRng};
use tempfile::TempDir;

use self::{
    figures::{Times, agent_memory, mib},
    tree::{Archive, Layout},
};

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Recordings in each archive
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    recordings: Vec<usize>,
    /// Directory for the archives; a million recordings need four gigabytes [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Random calls whose results are compared with those of find
    #[arg(long, default_value_t = 10_000)]
    compared: usize,
}

/// Seconds for each kind of search.
const EACH: Duration = Duration::from_secs(10);

pub(crate) async fn run(arguments: Arguments) {
    for recordings in arguments.recordings {
        for layout in [Layout::Flat, Layout::ByDate] {
            let dir = match &arguments.dir {
                Some(dir) => TempDir::new_in(dir),
                None => TempDir::new(),
            };
            let dir = dir.unwrap();
            println!("\n{recordings} recordings, {}", layout.name());
            let archive = Archive::make(dir.path().join("recordings"), layout, recordings);
            measure(&archive, &dir.path().join("index"), arguments.compared).await;
        }
    }
}

async fn measure(archive: &Archive, index: &Path, compared: usize) {
    let pattern = Pattern::parse(&archive.layout.pattern(&archive.root)).unwrap();
    let plain = StorageSettings::new(vec![pattern]);
    let indexed = StorageSettings { index: Some(index.to_owned()), ..plain.clone() };
    let by_find = times_of_find(archive);
    by_find.print("find", None);
    let without = RecordingStorage::new(plain);
    times(&without, archive, 2_000).await.print("without index", Some(&by_find));

    let with = RecordingStorage::new(indexed);
    let began = Instant::now();
    with.refresh_indexes().await;
    let built = began.elapsed();
    times(&with, archive, 50_000).await.print("with index", Some(&by_find));
    let began = Instant::now();
    with.refresh_indexes().await;
    println!("  built in {:.1} s, read again in {:.3} s", built.as_secs_f64(), began.elapsed().as_secs_f64());
    compare(&with, archive, compared).await;
    drop(with);

    // Allocated space; the file has reserved room that uses no disk.
    let allocated = |file: fs::DirEntry| file.metadata().unwrap().blocks() * 512;
    let bytes: u64 = fs::read_dir(index).unwrap().map(|file| allocated(file.unwrap())).sum();
    let count = archive.calls.len() as f64;
    println!("  index on disk {:.1} MiB, {:.0} bytes per recording", mib(bytes), bytes as f64 / count);
    for (name, indexed) in [
        ("without an index", None),
        ("building an index", Some(index.with_extension("new"))),
        ("with an index", Some(index.to_owned())),
    ] {
        let memory = agent_memory(&archive.layout.pattern(&archive.root), indexed.as_deref()).await;
        println!(
            "  an agent {name}: {:.1} MiB resident, {:.1} at most; {:.0} bytes per recording",
            mib(memory.resident),
            mib(memory.most),
            memory.resident as f64 / count
        );
    }
}

/// Searches with find, as an administrator would; three quarters are for existing calls.
fn times_of_find(archive: &Archive) -> Times {
    let mut random = SmallRng::seed_from_u64(1);
    Times::take(EACH, 200, |n| {
        let id = archive.random_id(&mut random, n % 4 != 0);
        let find = Command::new("find").arg(&archive.root).args(["-name", &format!("*{id}*")]).output();
        assert_eq!(find.unwrap().stdout.is_empty(), n % 4 == 0, "{id}");
    })
}

async fn times(vault: &RecordingStorage, archive: &Archive, most: usize) -> Times {
    let mut random = SmallRng::seed_from_u64(2);
    let (end, mut times) = (Instant::now() + EACH, Vec::new());
    while Instant::now() < end && times.len() < most {
        let there = times.len() % 4 != 0;
        let query = query(&archive.random_id(&mut random, there));
        let began = Instant::now();
        let found = vault.find(query, Scope::Everything).await;
        times.push(began.elapsed());
        assert!(found.complete && found.recordings.is_empty() != there);
    }
    Times::of(times)
}

/// Compares the results for random calls with the list of find.
async fn compare(vault: &RecordingStorage, archive: &Archive, compared: usize) {
    let listed =
        Command::new("find").arg(&archive.root).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut by_id: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for path in listed.lines() {
        let id = path.trim_end_matches(".wav").rsplit('-').next().unwrap();
        by_id.entry(id).or_default().insert(path);
    }
    let mut random = SmallRng::seed_from_u64(3);
    let mut found = 0;
    for n in 0..compared {
        let id = archive.random_id(&mut random, n % 2 == 0);
        let answer = vault.find(query(&id), Scope::Everything).await;
        let paths: BTreeSet<&str> =
            answer.recordings.iter().map(|found| found.path.to_str().unwrap()).collect();
        assert_eq!(paths, by_id.get(id.as_str()).cloned().unwrap_or_default(), "{id}");
        found += paths.len();
    }
    println!("  {compared} random calls have the same results as find; {found} recordings");
}

fn query(id: &str) -> Query {
    Query::new(CallIdRules::default().parse(id).unwrap())
}
