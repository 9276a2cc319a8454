//! `search`: shows where the recordings of a call are.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::SystemTime,
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{CommandError, announced, runtime};
use crate::{
    auth::Scope,
    config::{args::SearchArgs, check},
    storage::{Findings, RecordingStorage, StorageSettings, recording::Recording},
};

/// Most directories named in the table; `--json` names them all.
const SHOWN_DIRECTORIES: usize = 20;

pub(super) async fn run(args: &SearchArgs) -> Result<ExitCode, CommandError> {
    let checked = check::storage(&args.storage)?;
    let query = check::query(&args.call, &checked.settings)?;
    let storage = RecordingStorage::new(announced(checked));
    let findings = storage.find(query, Scope::Everything).await;
    let mut out = Vec::new();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&findings, storage.settings())).map_err(runtime)?;
        out.push(b'\n');
    } else {
        print(&mut out, &findings, &storage).map_err(runtime)?;
    }
    io::stdout().write_all(&out).map_err(runtime)?;
    Ok(if findings.recordings.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(out: &mut Vec<u8>, findings: &Findings, storage: &RecordingStorage) -> io::Result<()> {
    let settings = storage.settings();
    if !findings.recordings.is_empty() {
        writeln!(out, "{:>10}  {:>8}  {:<19}  RECORDING", "BYTES", "SECONDS", "MODIFIED")?;
    }
    for found in &findings.recordings {
        let seconds =
            found.duration.map_or_else(|| "-".to_owned(), |sound| format!("{:.1}", sound.as_secs_f64()));
        let path = printable(&full_path(found, settings));
        let notes = [(found.empty, "  (empty)"), (found.growing, "  (growing)")];
        let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
        let modified = local(found.modified, &settings.zone);
        writeln!(out, "{:>10}  {seconds:>8}  {modified:<19}  {path}{notes}", found.size)?;
    }
    writeln!(out, "Searched these directories, in {} ms:", findings.elapsed.as_millis())?;
    for looked in findings.looked_at.iter().take(SHOWN_DIRECTORIES) {
        let missing = if looked.exists { "" } else { "  (does not exist)" };
        writeln!(out, "  {}{missing}", printable(&looked.directory.to_string_lossy()))?;
    }
    match findings.looked_at.len() {
        0 => writeln!(out, "  no directory")?,
        count if count > SHOWN_DIRECTORIES => {
            writeln!(out, "  and {} more directories; --json lists all of them", count - SHOWN_DIRECTORIES)?;
        }
        _ => {}
    }
    for health in storage.health() {
        if let Some(problem) = health.degraded {
            writeln!(out, "Incomplete: {problem}")?;
        }
    }
    if findings.recordings.is_empty() {
        writeln!(out, "No recording found. {}", hint(findings))?;
    }
    Ok(())
}

/// What to try if nothing was found.
fn hint(findings: &Findings) -> &'static str {
    let there = findings.looked_at.iter().filter(|looked| looked.exists).count();
    if !findings.complete {
        "Some directories could not be searched, so the recording may exist."
    } else if findings.looked_at.is_empty() {
        "No directory matches: check whether --path needs --tenant, and whether a given value is a valid \
         directory name."
    } else if there == 0 {
        "None of these directories exists: check --path, --timezone and --start."
    } else {
        "No file in these directories has this id in its name: check the id, --start, and the form of the \
         file names."
    }
}

fn as_json(findings: &Findings, settings: &StorageSettings) -> Value {
    let files = findings.recordings.iter().map(|found| {
        json!({
            "path": full_path(found, settings),
            "filename": found.name().to_string_lossy(),
            "size": found.size,
            "modified": rfc3339(found.modified),
            "content_type": found.content_type(),
            "duration": found.duration.map(|sound| sound.as_secs_f64()),
            "empty": found.empty,
            "growing": found.growing,
        })
    });
    let looked = findings
        .looked_at
        .iter()
        .map(|looked| json!({ "directory": looked.directory.to_string_lossy(), "exists": looked.exists }));
    json!({
        "complete": findings.complete,
        "files": files.collect::<Vec<_>>(),
        "looked_at": looked.collect::<Vec<_>>(),
        "elapsed_ms": u64::try_from(findings.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}

fn full_path(found: &Recording, settings: &StorageSettings) -> String {
    let root = settings.root(found.root).map(|root| root.root().to_owned()).unwrap_or_default();
    root.join(&found.path).to_string_lossy().into_owned()
}

fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

fn local(time: SystemTime, zone: &TimeZone) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Replaces control characters, so that names from disk cannot control the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
