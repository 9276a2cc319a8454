//! `check` and `config check`: print the table of what works and what does not.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use audiovault_common::settings::SettingsError;

use super::{CommandError, runtime};
use crate::{
    check::{
        self, Extent,
        report::{Report, Row},
        table,
    },
    config::ask_args::CheckArgs,
};

/// Which check to run, and how to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckOptions {
    pub(super) extent: Extent,
    pub(super) json: bool,
}

pub(super) async fn run(args: CheckArgs, extent: Extent) -> Result<ExitCode, CommandError> {
    let json = args.json;
    let mut printer = Printer::new(json);
    let report = check::run(args.tunnel, extent, &mut |row| printer.row(row)).await;
    finish(&report, json).map_err(runtime)
}

/// Shows a configuration that cannot be read as a row like any other.
pub(super) fn unreadable(error: &SettingsError, asked: CheckOptions) -> ExitCode {
    let CheckOptions { extent, json } = asked;
    let mut printer = Printer::new(json);
    let report = check::unreadable(error, extent, &mut |row| printer.row(row));
    finish(&report, json).unwrap_or_else(|_| report.severity().into())
}

fn finish(report: &Report, json: bool) -> io::Result<ExitCode> {
    let text = if json { serde_json::to_string_pretty(report)? + "\n" } else { table::sum(report) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(report.severity().into())
}

/// Prints rows as they come. With JSON it prints nothing, because the report is printed at the end.
struct Printer {
    silent: bool,
    relay: Option<String>,
}

impl Printer {
    fn new(silent: bool) -> Self {
        Self { silent, relay: None }
    }

    fn row(&mut self, row: &Row) {
        if self.silent {
            return;
        }
        let mut text = String::new();
        if row.relay != self.relay {
            text.extend(row.relay.as_deref().map(table::relay));
            self.relay.clone_from(&row.relay);
        }
        text.push_str(&table::row(row));
        // Standard output may be closed; the exit code still says the result.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}
