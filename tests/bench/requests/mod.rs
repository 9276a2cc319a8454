//! Counts what one request costs relay and agent: instructions and allocations under callgrind, system calls under
//! strace. Prints Markdown tables for one or more builds. Unlike times, instructions and allocations hardly depend on
//! what else the machine does. System calls do a little, because the programs do some work in batches by time.
//!
//! Everything goes over `wss`, with the audit log, and with warnings only in the logs. Counting begins after some
//! requests of the same kind, so what happens once is not counted. What timers do during the requests is counted.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

mod callgrind;
mod strace;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use clap::Args;
use harness::recordings;
use tokio::task::JoinSet;

use crate::{
    client::{Connection, SearchPlace, Target},
    pair::Build,
    searched,
};

/// The number of recordings to download; requests take them in turns.
const RECORDINGS: usize = 64;
/// Connections for many requests at a time.
const MANY: usize = 32;
/// The length of each recording, in bytes.
const LENGTH: u64 = 1_024;
/// How long the programs get after the last response for what they do afterwards, such as the audit log.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directories with audiovault-relay and audiovault-agent [default: the directory of this program]
    #[arg(value_name = "DIRECTORY")]
    directories: Vec<PathBuf>,
    /// Requests under callgrind, one after the other and then thirty-two at a time
    #[arg(long, default_value_t = 960)]
    counted: usize,
    /// Requests under strace, thirty-two at a time
    #[arg(long, default_value_t = 20_000)]
    traced: usize,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole recording of 1 kB, by a link.
    Download,
    /// The one recording of a directory.
    Search,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Download => "a download of 1 kB",
            Self::Search => "a search",
        }
    }
}

/// Something of both programs.
#[derive(Debug, Clone, Default)]
struct Both<T> {
    relay: T,
    agent: T,
}

/// The counts of a build, for one kind of request; `None` if the program that counts is not installed.
struct Counts {
    build: String,
    kind: Kind,
    callgrind: Option<callgrind::Counted>,
    /// System calls per request, by name.
    strace: Option<Both<BTreeMap<String, f64>>>,
}

pub(crate) async fn run(arguments: Arguments) {
    let dir = tempfile::tempdir().unwrap();
    write_recordings(dir.path()).unwrap();
    let [with_callgrind, with_strace] = [("valgrind", "--version"), ("strace", "-V")].map(is_installed);
    let mut all = Vec::new();
    for build in Build::all(&arguments.directories) {
        for kind in [Kind::Download, Kind::Search] {
            let name = build.name.clone().unwrap_or_else(|| "AudioVault Tunnel".to_owned());
            eprintln!("{name}: {}", kind.name());
            let mut counts = Counts { build: name, kind, callgrind: None, strace: None };
            if with_callgrind {
                counts.callgrind = Some(callgrind::count(&build, dir.path(), kind, arguments.counted).await);
            }
            if with_strace {
                counts.strace = Some(strace::count(&build, dir.path(), kind, arguments.traced).await);
            }
            all.push(counts);
        }
    }
    for kind in [Kind::Download, Kind::Search] {
        let of_kind: Vec<&Counts> = all.iter().filter(|counts| counts.kind == kind).collect();
        println!("{}\n\n{}\n", instructions(kind, &of_kind), system_calls(kind, &of_kind));
    }
}

fn is_installed((program, version): (&str, &str)) -> bool {
    let run = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if run.is_err() {
        eprintln!("{program} is not installed: nothing is counted with it");
    }
    run.is_ok()
}

fn call(n: usize) -> String {
    format!("1711441902.{}", n % RECORDINGS)
}

fn write_recordings(dir: &Path) -> io::Result<()> {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let mut sound = recordings::wav(1.0, 1);
    sound.truncate(LENGTH.try_into().unwrap_or(usize::MAX));
    for n in 0..RECORDINGS {
        let path = dir.join(format!("in-{}.wav", call(n)));
        fs::write(&path, &sound)?;
        fs::File::open(&path)?.set_modified(hour_ago)?;
    }
    searched::write(dir)
}

/// The requests of one kind to a relay.
#[derive(Debug, Clone)]
struct Requests {
    kind: Kind,
    place: SearchPlace,
    links: Arc<Vec<Target>>,
}

impl Requests {
    async fn new(kind: Kind, place: &SearchPlace) -> Self {
        let mut links = Vec::new();
        for n in 0..RECORDINGS {
            let path = place.link(&call(n)).await.unwrap();
            links.push(Target { address: place.address, path, bytes: LENGTH });
        }
        Self { kind, place: place.clone(), links: Arc::new(links) }
    }

    /// Sends this many requests on kept connections, and waits for what they cause afterwards. Returns how many it were.
    async fn send(&self, connections: usize, requests: usize) -> usize {
        let each = requests.div_ceil(connections);
        let mut clients = JoinSet::new();
        for client in 0..connections {
            let requests = self.clone();
            clients.spawn(async move { requests.send_from(client, each).await.unwrap() });
        }
        clients.join_all().await;
        tokio::time::sleep(AFTERWARDS).await;
        each * connections
    }

    async fn send_from(&self, first: usize, requests: usize) -> io::Result<()> {
        let mut connection = Connection::open(self.place.address).await?;
        for n in first..first + requests {
            match self.kind {
                Kind::Download => {
                    connection.get(&self.links[n % RECORDINGS]).await?;
                }
                Kind::Search => {
                    connection.search(&self.place, searched::CALL).await?;
                }
            }
        }
        Ok(())
    }
}

fn instructions(kind: Kind, all: &[&Counts]) -> String {
    let mut rows = vec![
        format!("| {} | c | instructions, relay | agent | both | allocations, relay | agent |", kind.name()),
        "|---|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for counts in all {
        for (connections, Both { relay, agent }) in counts.callgrind.iter().flatten() {
            rows.push(format!(
                "| {} | {connections} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} |",
                counts.build,
                relay.instructions,
                agent.instructions,
                relay.instructions + agent.instructions,
                relay.allocations,
                agent.allocations
            ));
        }
    }
    if kind == Kind::Download {
        rows.push("| aim | 32 | | | ≤ 100000 | | |".to_owned());
    }
    rows.join("\n")
}

/// A row for each system call that a program makes at least once in two hundred requests.
fn system_calls(kind: Kind, all: &[&Counts]) -> String {
    let traced: Vec<_> =
        all.iter().filter_map(|counts| Some((&counts.build, counts.strace.as_ref()?))).collect();
    let programs: Vec<&BTreeMap<String, f64>> =
        traced.iter().flat_map(|(_, both)| [&both.relay, &both.agent]).collect();
    let heads: Vec<_> = traced.iter().map(|(build, _)| format!("{build}, relay | agent")).collect();
    let mut rows = vec![
        format!("| system calls for {}, c={MANY} | {} |", kind.name(), heads.join(" | ")),
        format!("|---|{}", "--:|".repeat(programs.len())),
    ];
    let mut names: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, count) in programs.iter().copied().flatten() {
        let most = names.entry(name).or_default();
        *most = most.max(*count);
    }
    let mut names: Vec<(&str, f64)> = names.into_iter().filter(|(_, most)| *most >= 0.005).collect();
    names.sort_unstable_by(|one, other| other.1.total_cmp(&one.1));
    let row = |name: &str, values: Vec<f64>| {
        let cells: Vec<_> = values.iter().map(|value| format!("{value:.2}")).collect();
        format!("| {name} | {} |", cells.join(" | "))
    };
    for (name, _) in names {
        let values = programs.iter().map(|calls| calls.get(name).copied().unwrap_or_default());
        rows.push(row(&format!("`{name}`"), values.collect()));
    }
    rows.push(row("all", programs.iter().map(|calls| calls.values().sum()).collect()));
    if kind == Kind::Download {
        rows.push(format!("| aim | {}", "≤ 3 | ≤ 5 | ".repeat(traced.len()).trim_end()));
    }
    rows.join("\n")
}
