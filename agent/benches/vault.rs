//! Measures searches without HTTP: from a pattern to directories, and in a directory with and without an index.

#![expect(clippy::expect_used, reason = "a measurement that cannot go on has nothing to say")]

use std::{fs, path::Path, time::Duration};

use audiovault_agent::{
    auth::Scope,
    storage::{LOOK_BACK, RecordingStorage, StorageSettings},
};
use audiovault_agent_core::{call_id::CallIdRules, expand::expand, pattern::Pattern, query::Query};
use divan::{Bencher, black_box};
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

/// 2024-03-26 08:31:42 UTC.
const BEGAN: u64 = 1_711_441_902;
/// Recordings in the directory that is searched: a busy day of a call centre.
const RECORDINGS: u64 = 1_000;

fn query(call_id: &str) -> Query {
    Query::new(CallIdRules::default().parse(call_id).expect("a call id"))
}

#[divan::bench(args = [
    "file:/var/spool/asterisk/monitor",
    "file:/var/spool/asterisk/monitor/%YY/%MM/%DD",
    "file:/storage/mikopbx/%YY/%MM/%DD/%HH",
    "file:/var/lib/freeswitch/recordings/%TE/archive/%YY/%ME/%DD",
])]
fn expand_pattern(bencher: Bencher, pattern: &str) {
    let pattern = Pattern::parse(pattern).expect("a pattern");
    let zone = TimeZone::get("Europe/Madrid").expect("a zone");
    let mut query = query(&format!("{BEGAN}.17"));
    query.tenant = Some("acme.example".to_owned());
    bencher.bench(|| expand(black_box(&pattern), black_box(&query), &zone, LOOK_BACK));
}

/// A directory of recordings, and the vault that searches it.
struct Archive {
    runtime: Runtime,
    storage: RecordingStorage,
    _directory: TempDir,
}

impl Archive {
    fn new(indexed: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let recordings = directory.path().join("recordings");
        fill(&recordings);
        let pattern = format!("file:{}", recordings.display());
        let mut settings = StorageSettings::new(vec![Pattern::parse(&pattern).expect("a pattern")]);
        settings.index = indexed.then(|| directory.path().join("index"));
        let mut runtime = Builder::new_current_thread();
        // The thread that has run one search runs the next.
        runtime.enable_all().max_blocking_threads(1).thread_keep_alive(Duration::from_secs(60));
        let runtime = runtime.build().expect("a runtime");
        let storage = RecordingStorage::new(settings);
        runtime.block_on(storage.refresh_indexes());
        Self { runtime, storage, _directory: directory }
    }

    fn search(&self, query: Query, expected: usize) {
        let found = self.runtime.block_on(self.storage.find(query, Scope::Everything));
        assert!(found.complete && found.recordings.len() == expected);
    }
}

fn fill(directory: &Path) {
    fs::create_dir(directory).expect("a directory");
    for n in 0..RECORDINGS {
        let name = format!("q-400-34911{n:06}-20240326-083142-{}.{n}.wav", BEGAN + n);
        fs::write(directory.join(name), b"RIFF").expect("a file");
    }
}

fn search(bencher: Bencher, indexed: bool, query: &Query, expected: usize) {
    let archive = Archive::new(indexed);
    bencher.with_inputs(|| query.clone()).bench_local_values(|query| archive.search(query, expected));
}

#[divan::bench(args = [false, true])]
fn search_found(bencher: Bencher, indexed: bool) {
    search(bencher, indexed, &query(&format!("{}.500", BEGAN + 500)), 1);
}

#[divan::bench(args = [false, true])]
fn search_missing(bencher: Bencher, indexed: bool) {
    search(bencher, indexed, &query(&format!("{}.5000000500", BEGAN + 500)), 0);
}
