//! Compares this project with nginx alone and with other tunnels, with the same work in one run on one machine.
//! Prints medians of interleaved runs, and ratios. Everything is real: processes, sockets, encryption, files. Every
//! status and every length is checked, and every file is compared once, byte by byte.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails has no result")]

mod client;
mod contender;
mod figures;
mod files;
mod peers;
mod report;
mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use harness::usage::Processes;
use serde_json::Value;
use tempfile::TempDir;

use self::{
    client::Connection,
    contender::{Contender, Role},
    figures::Run,
    files::Size,
    report::Report,
    workload::Workload,
};

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How often to measure everything
    #[arg(long, default_value_t = 6)]
    runs: usize,
    /// Seconds for a workload without a fixed size
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Workloads to run [default: all]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Workload>,
    /// Contenders whose name contains this text; ours is always included [default: all]
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,
    /// File for all runs, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) {
    let dir = TempDir::new().unwrap();
    files::write_all(dir.path()).unwrap();
    let started = start(dir.path()).await;
    let wanted = |contender: &&Contender| {
        let names = &arguments.contenders;
        contender.role == Role::Ours
            || names.is_empty()
            || names.iter().any(|name| contender.name.contains(name.as_str()))
    };
    let contenders: Vec<&Contender> = started.iter().filter(wanted).collect();
    for contender in &contenders {
        verify(contender, dir.path()).await;
    }
    let workloads: &[Workload] =
        if arguments.only.is_empty() { Workload::value_variants() } else { &arguments.only };
    let mut runs = Vec::new();
    for round in 1..=arguments.runs {
        for workload in workloads {
            for contender in &contenders {
                runs.push(measure(contender, *workload, Duration::from_secs_f64(arguments.seconds)).await);
            }
        }
        eprintln!("run {round} of {}", arguments.runs);
    }
    let report = Report { contenders: &contenders, runs: &runs };
    println!("{}\n\n{}", report.table(), report.aims());
    if let Some(file) = arguments.json {
        let runs: Vec<Value> = runs.iter().map(Run::to_json).collect();
        fs::write(file, serde_json::to_vec_pretty(&runs).unwrap()).unwrap();
    }
}

async fn start(files: &Path) -> Vec<Contender> {
    let direct = contender::direct(files).await.expect("nginx, which the comparison needs");
    let origin = direct.target(Size::Small, 0).address;
    let peers = peers::start_all(&direct, origin).await;
    let proxied = contender::proxied(&direct).await.expect("nginx");
    let ours = [contender::ours(files, 1).await, contender::ours(files, 2).await];
    let mut all: Vec<Contender> = ours.into();
    all.extend([direct, proxied]);
    all.extend(peers);
    all
}

/// Compares the downloads of a contender with the files.
async fn verify(contender: &Contender, files: &Path) {
    for size in [Size::Mebibytes64, Size::Recording, Size::Small] {
        for n in 0..size.count() {
            let target = contender.target(size, n);
            let fetched = async { Connection::open(target.address).await?.fetch(&target).await };
            let fetched = fetched.await.unwrap_or_else(|error| panic!("{}: {error}", contender.name));
            let wanted = fs::read(files.join(size.name(n))).unwrap();
            assert!(fetched == wanted, "{} does not deliver the file unchanged", contender.name);
        }
    }
}

/// Runs one workload, on one thread that does nothing else.
async fn measure(contender: &Contender, workload: Workload, about: Duration) -> Run {
    let before = [&contender.programs, &contender.origin].map(Processes::processor_time);
    let outcome = tokio::task::block_in_place(|| {
        let scope = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(workload.run(contender, about))
            });
            work.join()
        });
        scope.expect("no panic")
    });
    let outcome = outcome.unwrap_or_else(|error| panic!("{}, {workload:?}: {error}", contender.name));
    let after = [&contender.programs, &contender.origin].map(Processes::processor_time);
    let [programs, origin] = [0, 1].map(|n| after[n].saturating_sub(before[n]));
    Run { contender: contender.name, workload, outcome, programs, origin }
}
