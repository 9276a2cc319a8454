//! Coverage: ten thousand answered calls and a directory tree with known gaps.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use harness::{
    process::run,
    recordings::{wav, write},
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use tempfile::TempDir;

const CALLS: usize = 10_000;
/// 2024-03-01, 08:00 in Madrid.
const FIRST: i64 = 1_709_276_400;
const QUEUES: [&str; 2] = ["sales", "support"];
const FATES: [&str; 4] = ["found", "not_recorded", "outside_pattern", "empty"];

struct Call {
    began: i64,
    id: String,
    queue: &'static str,
    fate: &'static str,
    day: String,
}

/// Calls of a month; about every seventh has some kind of gap.
fn calls() -> Vec<Call> {
    let zone = TimeZone::get("Europe/Madrid").unwrap();
    let call = |n: usize| {
        let began = FIRST + i64::try_from(n).unwrap() * 260;
        // A prime, so that there are gaps on every day, hour and queue.
        let fate = FATES[match n * 7919 % 97 {
            0..=4 => 1,
            5..=7 => 2,
            8..=12 => 3,
            _ => 0,
        }];
        let at = Timestamp::from_second(began).unwrap().to_zoned(zone.clone());
        let queue = QUEUES[n % 2];
        Call { began, id: format!("{began}.{n}"), queue, fate, day: at.date().to_string() }
    };
    (0..CALLS).map(call).collect()
}

/// Asterisk's queue_log of these calls, with the same number of calls that were not answered.
fn queue_log(calls: &[Call]) -> String {
    let mut log = String::from("1709276000|NONE|NONE|NONE|QUEUESTART|\n");
    for Call { began, id, queue, .. } in calls {
        writeln!(log, "{began}|{id}|{queue}|NONE|ENTERQUEUE||34911223344|1").unwrap();
        writeln!(log, "{}|{began}.9{}|{queue}|NONE|ABANDON|1|1|3", began + 3, id.len()).unwrap();
        writeln!(log, "{}|{id}|{queue}|SIP/101|CONNECT|5|{began}.77|4", began + 5).unwrap();
        writeln!(log, "{}|{id}|{queue}|SIP/101|COMPLETEAGENT|5|60|1", began + 65).unwrap();
    }
    log
}

fn record(root: &Path, call: &Call) {
    let name = format!("q-{}-34911223344-{}.wav", call.queue, call.id);
    let day = call.day.replace('-', "/");
    let sound = wav(0.01, 1);
    match call.fate {
        "found" => drop(write(root, format!("{day}/{name}"), &sound)),
        "empty" => drop(write(root, format!("{day}/{name}"), &sound[..44])),
        "outside_pattern" => drop(write(root, format!("2023/01/01/{name}"), &sound)),
        _ => {}
    }
}

fn expected<'a>(
    calls: &'a [Call],
    key: impl Fn(&'a Call) -> &'a str,
) -> BTreeMap<&'a str, BTreeMap<&'a str, u64>> {
    let mut counted: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for call in calls {
        let row = counted.entry(key(call)).or_default();
        *row.entry("calls").or_default() += 1;
        *row.entry(call.fate).or_default() += 1;
    }
    counted
}

fn counted(report: &Value, what: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    serde_json::from_value(report["coverage"][what].clone()).unwrap()
}

fn same<'a>(
    tallies: &'a BTreeMap<String, BTreeMap<String, u64>>,
) -> BTreeMap<&'a str, BTreeMap<&'a str, u64>> {
    let row =
        |row: &'a BTreeMap<String, u64>| row.iter().map(|(key, count)| (key.as_str(), *count)).collect();
    tallies.iter().map(|(key, tally)| (key.as_str(), row(tally))).collect()
}

#[tokio::test]
async fn every_gap_of_ten_thousand_calls_is_named_correctly() {
    let (dir, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let calls = calls();
    calls.iter().for_each(|call| record(root.path(), call));
    let log = dir.path().join("queue_log");
    fs::write(&log, queue_log(&calls)).unwrap();
    let path = format!("file:{}/%YY/%MM/%DD", root.path().display());
    let (log, picture) = (log.to_str().unwrap(), dir.path().join("coverage.svg"));
    let flags = ["coverage", "--queue-log", log, "--path", &path, "--timezone", "Europe/Madrid"];
    let more = ["--json", "--svg", picture.to_str().unwrap()];
    let (exit, out, err) = run("audiovault-agent", &[&flags[..], &more].concat(), &[]).await;
    assert_eq!(exit, 1, "there are gaps: {err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["coverage"]["calls"], CALLS);
    assert_eq!(same(&counted(&report, "days")), expected(&calls, |call| &call.day));
    assert_eq!(same(&counted(&report, "queues")), expected(&calls, |call| call.queue));
    let outside = &report["examples"]["outside_pattern"][0]["file"];
    let outside = outside.as_str().unwrap();
    assert!(outside.contains("/2023/01/01/") && !outside.contains("34911223344"), "{outside}");
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("<title>2024-03-01: "), "{svg}");

    let week = ["--since", "2024-03-11", "--until", "2024-03-12"];
    let (_, out, _) = run("audiovault-agent", &[&flags[..], &week].concat(), &[]).await;
    assert!(out.contains("2024-03-11") && !out.contains("2024-03-10"), "{out}");
    assert!(
        out.contains("outside the pattern: the recording is in a directory that does not match --path"),
        "{out}"
    );

    let missing = format!("{path},file:/nowhere/at/all");
    let flags = flags.map(|flag| if flag == path { missing.as_str() } else { flag });
    let (_, out, _) = run("audiovault-agent", &[&flags[..], &["--json"]].concat(), &[]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    let gone = calls.iter().filter(|call| call.fate == "not_recorded").count();
    assert_eq!(report["coverage"]["root_missing"], gone, "the content of a missing root is unknown");
    assert!(report["roots_degraded"][0].as_str().unwrap().contains("/nowhere/at/all"));
}

#[tokio::test]
async fn a_queue_log_that_is_not_there_is_named() {
    let (exit, _, err) = run(
        "audiovault-agent",
        &["coverage", "--queue-log", "/nowhere/queue_log", "--path", "file:/tmp"],
        &[],
    )
    .await;
    assert!(exit == 1 && err.contains("/nowhere/queue_log"), "{exit} {err}");
}
