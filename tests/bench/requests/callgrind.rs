//! Instructions and allocations of a request, counted by callgrind in the real programs.
//!
//! Callgrind emulates the same processor on every machine, with AVX2 and no later extension, and without openat2.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::process::Process;

use super::{Both, Kind, MANY, Requests};
use crate::pair::{Build, Pair, PairOptions};

/// Requests before counting begins.
const WARM_UP: usize = 96;

/// What callgrind has counted in a program, per request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) instructions: f64,
    /// Calls of the allocator for memory; freeing it does not count.
    pub(super) allocations: f64,
}

/// The counts with one connection and with many, each with the number of connections.
pub(super) type Counted = [(usize, Both<Counts>); 2];

/// Starts a build under callgrind and counts.
pub(super) async fn count(build: &Build, files: &Path, kind: Kind, requests: usize) -> Counted {
    let one = count_with(1, build, files, kind, requests).await;
    [(1, one), (MANY, count_with(MANY, build, files, kind, requests).await)]
}

async fn count_with(
    connections: usize,
    build: &Build,
    files: &Path,
    kind: Kind,
    requests: usize,
) -> Both<Counts> {
    let dir = tempfile::tempdir().unwrap();
    let out = Both { relay: dir.path().join("relay"), agent: dir.path().join("agent") };
    let options = PairOptions {
        starters: [starter(&out.relay), starter(&out.agent)],
        // Callgrind counts the C library's fast copy instruction once for each byte; with this setting the library uses
        // its usual copy loop.
        environment: vec![(
            "GLIBC_TUNABLES",
            "glibc.cpu.x86_rep_movsb_threshold=0x40000000:glibc.cpu.x86_rep_stosb_threshold=0x40000000"
                .to_owned(),
        )],
        ..PairOptions::new(files)
    };
    let mut pair = Pair::start(build, &options).await;
    let load = Requests::new(kind, &pair.place).await;
    load.send(connections, WARM_UP).await;
    [&pair.relay, &pair.agent].into_iter().for_each(|program| switch(program, "on"));
    let sent = load.send(connections, requests).await;
    [&pair.relay, &pair.agent].into_iter().for_each(|program| switch(program, "off"));
    let ended = pair.end().await;
    assert!(ended.iter().all(|status| status.success()), "the programs ended with {ended:?}");
    let per_request = |out: &PathBuf| read(&fs::read_to_string(out).unwrap(), sent);
    Both { relay: per_request(&out.relay), agent: per_request(&out.agent) }
}

/// Callgrind without counting yet, which makes the start of the program quick.
fn starter(out: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}", out.display());
    ["valgrind", "--tool=callgrind", "--instr-atstart=no", &out].map(str::to_owned).to_vec()
}

/// Switches counting on or off.
fn switch(program: &Process, to: &str) {
    let id = program.id().to_string();
    let output = Command::new("callgrind_control").args(["-i", to, &id]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("OK"), "callgrind_control -i {to}: {text}");
}

/// Reads callgrind's file (the format is in valgrind's manual, chapter "Callgrind Format Specification").
fn read(profile: &str, requests: usize) -> Counts {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut caller = "";
    let mut callee = "";
    let mut counts = Counts::default();
    for line in profile.lines() {
        if let Some(reference) = line.strip_prefix("fn=") {
            caller = name(reference, &mut names);
        } else if let Some(reference) = line.strip_prefix("cfn=") {
            callee = name(reference, &mut names);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            // An allocator's own functions call each other.
            if allocates(callee) && !allocates(caller) {
                counts.allocations += number(calls);
            }
        } else if let Some(total) = line.strip_prefix("totals:") {
            counts.instructions = number(total);
        }
    }
    Counts {
        instructions: counts.instructions / requests as f64,
        allocations: counts.allocations / requests as f64,
    }
}

/// The name of a function. It is in the file once, with a number in parentheses; afterwards only the number is.
fn name<'a>(reference: &'a str, names: &mut BTreeMap<&'a str, &'a str>) -> &'a str {
    match reference.split_once(") ") {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(reference.trim_end_matches(')')).copied().unwrap_or_default(),
    }
}

fn number(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Whether a function is one that a program calls for memory, of the C library, mimalloc or jemalloc.
fn allocates(function: &str) -> bool {
    // A number behind an apostrophe is the depth of a recursion.
    let function = function.split('\'').next().unwrap_or_default();
    let function =
        ["mi_", "_rjem_"].iter().find_map(|prefix| function.strip_prefix(prefix)).unwrap_or(function);
    matches!(
        function,
        "malloc"
            | "calloc"
            | "realloc"
            | "memalign"
            | "aligned_alloc"
            | "posix_memalign"
            | "malloc_aligned"
            | "zalloc"
            | "zalloc_aligned"
            | "realloc_aligned"
            | "mallocx"
            | "rallocx"
    )
}
