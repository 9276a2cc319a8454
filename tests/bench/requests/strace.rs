//! System calls of a request, counted by strace in the real programs. strace makes them slower, which changes
//! how many requests share a batch of the audit log or a turn of the tunnel: compare builds with each other.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use harness::process::Process;

use super::{Both, Kind, MANY, Requests};
use crate::pair::{Build, Pair, PairOptions};

/// Requests before counting begins.
const WARM_UP: usize = 2_000;

/// Starts a build, attaches strace to both programs, and counts.
pub(super) async fn count(
    build: &Build,
    files: &Path,
    kind: Kind,
    requests: usize,
) -> Both<BTreeMap<String, f64>> {
    let dir = tempfile::tempdir().unwrap();
    let out = Both { relay: dir.path().join("relay"), agent: dir.path().join("agent") };
    let pair = Pair::start(build, &PairOptions::new(files)).await;
    let load = Requests::new(kind, &pair.place).await;
    load.send(MANY, WARM_UP).await;
    let mut tracers = [attach(&pair.relay, &out.relay).await, attach(&pair.agent, &out.agent).await];
    let sent = load.send(MANY, requests).await;
    for tracer in &mut tracers {
        tracer.signal("INT");
        tracer.wait().await;
    }
    let per_request = |out: &PathBuf| read(&fs::read_to_string(out).unwrap(), sent);
    Both { relay: per_request(&out.relay), agent: per_request(&out.agent) }
}

/// Attaches strace to all threads of a program, and waits until it counts.
async fn attach(program: &Process, out: &Path) -> Process {
    let arguments = ["-c", "-f", "-o", &out.display().to_string(), "-p", &program.id().to_string()];
    let tracer = Process::start_program("strace".as_ref(), &arguments.map(str::to_owned), &[]);
    tracer.wait_for("attached").await;
    tracer
}

/// Reads strace's table: the share of the time, seconds, microseconds per call, calls, errors if there are any, name.
fn read(table: &str, requests: usize) -> BTreeMap<String, f64> {
    let calls = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let name = cells.last().filter(|name| **name != "total")?;
        let calls: f64 = cells.get(3)?.parse().ok()?;
        Some(((*name).to_owned(), calls / requests as f64))
    });
    calls.collect()
}
