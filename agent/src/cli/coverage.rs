//! `coverage`: the share of answered calls whose recordings are found.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufReader, Write},
    path::Path,
    process::ExitCode,
};

use audiovault_agent_core::query::parse_start;
use audiovault_common::advice::{Advice, without_causes};
use audiovault_protocol::{frame::one_line, recording::name::mask};
use serde_json::{Value, json};

use super::{CommandError, announced, runtime};
use crate::{
    check::coverage::{
        self, Coverage, Fate, SearchResult, Tally, picture,
        queue_log::{self, Period, QueueLog},
    },
    config::{ask_args::CoverageArgs, check, error::ConfigError},
    storage::{StorageSettings, driver::DriverFault},
};

/// Number of examples shown for each kind of missing recording.
const EXAMPLES: usize = 3;

pub(super) async fn run(args: CoverageArgs) -> Result<ExitCode, CommandError> {
    let settings = announced(check::storage(&args.storage)?);
    let time = |text: &Option<String>| {
        text.as_deref().map(|text| parse_start(text, &settings.zone).map_err(ConfigError::from)).transpose()
    };
    let period = Period { since: time(&args.since)?, until: time(&args.until)? };
    let path = args.queue_log.clone();
    let tenant = args.tenant.clone();
    let work = tokio::task::spawn_blocking(move || survey(&path, period, &settings, tenant.as_deref()));
    let surveyed = work.await.map_err(runtime)?.map_err(runtime)?;
    if let Some(path) = &args.svg {
        fs::write(path, picture::draw(&surveyed.coverage))
            .map_err(|error| Unwritten(path.clone(), error))
            .map_err(runtime)?;
    }
    let text = if args.json {
        serde_json::to_string_pretty(&surveyed.as_json()).map_err(runtime)? + "\n"
    } else {
        surveyed.to_text()
    };
    io::stdout().write_all(text.as_bytes()).map_err(runtime)?;
    let all = &surveyed.coverage.all;
    Ok(if all.of(Fate::Found) == all.calls { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", .0.display())]
struct Unwritten(std::path::PathBuf, #[source] io::Error);

impl Advice for Unwritten {
    fn advice(&self) -> Option<Cow<'_, str>> {
        None
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the queue_log {}", .0.display())]
struct Unreadable(std::path::PathBuf, #[source] io::Error);

impl Advice for Unreadable {
    fn advice(&self) -> Option<Cow<'_, str>> {
        None
    }
}

struct Surveyed {
    log: QueueLog,
    tried: Vec<SearchResult>,
    faults: Vec<DriverFault>,
    coverage: Coverage,
    settings: StorageSettings,
}

fn survey(
    path: &Path,
    period: Period,
    settings: &StorageSettings,
    tenant: Option<&str>,
) -> Result<Surveyed, Unreadable> {
    let unreadable = |error| Unreadable(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    let mut log = queue_log::read(BufReader::new(file), period).map_err(unreadable)?;
    let (tried, faults) = coverage::try_all(settings, std::mem::take(&mut log.calls), tenant);
    let coverage = Coverage::count(&tried, &settings.zone);
    Ok(Surveyed { log, tried, faults, coverage, settings: settings.clone() })
}

impl Surveyed {
    fn examples(&self, fate: Fate) -> impl Iterator<Item = &SearchResult> {
        self.tried.iter().filter(move |tried| tried.fate == fate).take(EXAMPLES)
    }

    /// The path of a file, with telephone numbers masked.
    fn place(&self, tried: &SearchResult) -> Option<String> {
        let (root, path) = tried.file.as_ref()?;
        let root = self.settings.root(*root)?.root().display().to_string();
        let directory = path.parent().map(|directory| directory.display().to_string()).unwrap_or_default();
        let name = mask(&path.file_name().unwrap_or_default().to_string_lossy());
        Some(one_line(&format!("{root}/{directory}/{name}").replace("//", "/")))
    }

    fn as_json(&self) -> Value {
        let missing = Fate::ALL.into_iter().filter(|fate| *fate != Fate::Found);
        let examples: BTreeMap<Fate, Vec<Value>> = missing
            .map(|fate| (fate, self.examples(fate).map(|tried| self.example(tried)).collect()))
            .collect();
        let roots: Vec<String> = self.faults.iter().map(without_causes).collect();
        json!({
            "lines": self.log.lines,
            "lines_unread": self.log.unread,
            "coverage": self.coverage,
            "percent": self.coverage.all.percent(),
            "examples": examples,
            "roots_degraded": roots,
        })
    }

    fn example(&self, tried: &SearchResult) -> Value {
        let answered = tried.call.at.to_string();
        json!({ "call_id": tried.call.id, "answered": answered, "queue": tried.call.queue, "file": self.place(tried) })
    }

    fn to_text(&self) -> String {
        let Coverage { all, days, queues } = &self.coverage;
        let mut text = format!(
            "{} calls were answered; {} recordings are found ({:.1} %).\n",
            all.calls,
            all.of(Fate::Found),
            all.percent()
        );
        // Writing to a string cannot fail.
        if self.log.unread > 0 {
            let _ = writeln!(
                text,
                "{} of {} lines are not valid lines of a queue_log.",
                self.log.unread, self.log.lines
            );
        }
        for fault in &self.faults {
            let _ = writeln!(text, "{}", without_causes(fault));
        }
        for fate in Fate::ALL.into_iter().filter(|fate| *fate != Fate::Found && all.of(*fate) > 0) {
            let _ = writeln!(text, "\n{} {}: {}", all.of(fate), fate.title(), fate.advice());
            for tried in self.examples(fate) {
                let at = tried.call.at.to_zoned(self.settings.zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
                let place = self.place(tried).map(|place| format!(", {place}")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "    {} of {at}, queue {}{place}",
                    one_line(&tried.call.id),
                    one_line(&tried.call.queue)
                );
            }
        }
        table(&mut text, "DAY", days);
        table(&mut text, "QUEUE", queues);
        text
    }
}

/// A table with a column for each fate that occurs.
fn table(text: &mut String, title: &str, rows: &BTreeMap<String, Tally>) {
    let fates: Vec<Fate> =
        Fate::ALL.into_iter().filter(|fate| rows.values().any(|row| row.of(*fate) > 0)).collect();
    let width = rows.keys().map(|key| key.chars().count()).max().unwrap_or(0).max(title.len());
    let _ = write!(text, "\n{title:<width$}  {:>7}", "CALLS");
    for fate in &fates {
        let _ = write!(text, "  {:>7}", fate.title().to_uppercase());
    }
    text.push_str("  PERCENT\n");
    for (key, row) in rows {
        let _ = write!(text, "{:<width$}  {:>7}", one_line(key), row.calls);
        for fate in &fates {
            let _ = write!(text, "  {:>1$}", row.of(*fate), fate.title().len().max(7));
        }
        let _ = writeln!(text, "  {:>7.1}", row.percent());
    }
}
