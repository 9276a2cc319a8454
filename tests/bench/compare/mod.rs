//! Compares this project with nginx alone, with other tunnels in front of nginx, and with other tunnels in front of the
//! classic AudioVault: the same work in one run on one machine. It can also compare builds of this project. Prints
//! medians of interleaved runs, and ratios. Everything is real: processes, sockets, encryption, files. Every
//! status and every length is checked, and every file is compared once, byte by byte.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails has no result")]

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
    contender::{Contender, Role, Variant, name},
    figures::Run,
    files::Size,
    report::Report,
    workload::Workload,
};
use crate::{client::Connection, pair::Build};

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
    /// Contenders whose name contains this text; builds of this project are always included [default: all]
    #[arg(long, value_delimiter = ',', value_name = "TEXT", conflicts_with = "alone")]
    contenders: Vec<String>,
    /// Only builds of this project, no other contenders
    #[arg(long)]
    alone: bool,
    /// Directory with audiovault-relay and audiovault-agent to measure instead of those beside this program; several
    /// are measured in turns and compared, the last one also with the aims
    #[arg(long, value_name = "DIRECTORY")]
    programs: Vec<PathBuf>,
    /// File for all runs, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Arguments {
    /// Whether a contender that is not one of the builds is to be measured.
    fn wants(&self, name: &str) -> bool {
        !self.alone && (self.contenders.is_empty() || self.contenders.iter().any(|part| name.contains(part)))
    }
}

pub(crate) async fn run(arguments: Arguments) {
    let dir = TempDir::new().unwrap();
    files::write_all(dir.path()).unwrap();
    let started = start(dir.path(), &arguments).await;
    // Others may have been started because peers need them.
    let measured = |contender: &&Contender| {
        matches!(contender.role, Role::Ours | Role::OtherBuild) || arguments.wants(&contender.name)
    };
    let contenders: Vec<&Contender> = started.iter().filter(measured).collect();
    for contender in &contenders {
        verify(contender, dir.path()).await;
    }
    let workloads: &[Workload] =
        if arguments.only.is_empty() { Workload::value_variants() } else { &arguments.only };
    let mut runs = Vec::new();
    for round in 1..=arguments.runs {
        for workload in workloads {
            for contender in contenders.iter().filter(|contender| workload.is_for(contender)) {
                runs.push(measure(contender, *workload, Duration::from_secs_f64(arguments.seconds)).await);
            }
        }
        eprintln!("run {round} of {}", arguments.runs);
    }
    let report = Report { contenders: &contenders, runs: &runs };
    println!("{}\n\n{}", report.table(), report.aims());
    report.builds().iter().for_each(|table| println!("\n{table}"));
    if let Some(file) = arguments.json {
        let runs: Vec<Value> = runs.iter().map(Run::to_json).collect();
        fs::write(file, serde_json::to_vec_pretty(&runs).unwrap()).unwrap();
    }
}

/// Starts this project and the other contenders that are wanted.
async fn start(files: &Path, arguments: &Arguments) -> Vec<Contender> {
    let wanted = |name: &str| arguments.wants(name);
    let builds = Build::all(&arguments.programs);
    let (newest, others) = builds.split_last().expect("a build");
    let mut all = Vec::new();
    for build in others {
        all.push(contender::ours(build, files, Variant::Quiet, Role::OtherBuild).await);
    }
    all.push(contender::ours(newest, files, Variant::Quiet, Role::Ours).await);
    for (variant, role) in [(Variant::DefaultLog, Role::DefaultLog), (Variant::TwoTunnels, Role::Reference)] {
        if wanted(&name(newest, variant)) {
            all.push(contender::ours(newest, files, variant, role).await);
        }
    }
    if arguments.alone {
        return all;
    }
    let serve = contender::serve(newest, files).await;
    let behind = peers::start_with_serve(&serve, wanted).await;
    let direct = contender::direct(files).await.expect("nginx, which the comparison needs");
    let proxied = contender::proxied(&direct).await.expect("nginx");
    let peers = peers::start_all(&direct, wanted).await;
    all.push(serve);
    all.extend(behind);
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
    let before = contender.programs.each(Processes::processor_time);
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
    let used = contender.programs.each(Processes::processor_time).since(before);
    Run { contender: contender.name.clone(), workload, outcome, used }
}
