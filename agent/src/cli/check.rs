//! `check` and `config check`: print the table of what works and what does not. `config` also shows how to write a
//! configuration.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use audiovault_common::settings::{Origins, SettingsError};

use super::{CommandError, runtime};
use crate::{
    check::{
        self, Extent,
        report::{Report, Row, Severity, State, Step},
    },
    config::{
        ask_args::{CheckArgs, ConfigCommand},
        settings,
    },
};

/// Width of the columns before the text: state and step.
const INDENT: usize = 24;
/// Longest line of the table, in columns.
const WIDTH: usize = 110;

/// Which check to run, and how to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckOptions {
    pub(super) extent: Extent,
    pub(super) json: bool,
}

pub(super) async fn run(
    args: CheckArgs,
    origins: &Origins,
    extent: Extent,
) -> Result<ExitCode, CommandError> {
    let json = args.json;
    let mut printer = Printer::new(json);
    let report = check::run(args.tunnel, origins, extent, &mut |row| printer.row(row)).await;
    finish(&report, json).map_err(runtime)
}

pub(super) async fn config(command: ConfigCommand, origins: &Origins) -> Result<ExitCode, CommandError> {
    let text = match command {
        ConfigCommand::Check(args) => return run(*args, origins, Extent::Configuration).await,
        ConfigCommand::Example => settings::example(),
        ConfigCommand::Reference => settings::reference(),
    };
    io::stdout().write_all(text.as_bytes()).map_err(runtime)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows a configuration that cannot be read as a row like any other.
pub(super) fn unreadable(error: &SettingsError, asked: CheckOptions) -> ExitCode {
    let CheckOptions { extent, json } = asked;
    let mut printer = Printer::new(json);
    let report = check::unreadable(error, extent, &mut |row| printer.row(row));
    finish(&report, json).unwrap_or_else(|_| report.severity().into())
}

fn finish(report: &Report, json: bool) -> io::Result<ExitCode> {
    let text = if json { serde_json::to_string_pretty(report)? + "\n" } else { sum(report) };
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
            text.extend(row.relay.as_deref().map(relay_line));
            self.relay.clone_from(&row.relay);
        }
        text.push_str(&row_lines(row));
        // Standard output may be closed; the exit code still says the result.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

/// One row: what was found, and below it what to do.
fn row_lines(row: &Row) -> String {
    let state = match row.state {
        State::Pass => "PASS",
        State::Warn => "WARN",
        State::Fail => "FAIL",
        State::Skipped => "SKIPPED",
    };
    let subject = row.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
    let head = format!("{state:<9}{:<15}", row.step.title());
    let mut text = wrapped(&head, &format!("{subject}{}", row.detail));
    if let Some(advice) = &row.advice {
        text.push_str(&wrapped(&" ".repeat(INDENT), &format!("→ {advice}")));
    }
    text
}

/// The line before the rows of a relay.
fn relay_line(address: &str) -> String {
    format!("\n{address}\n")
}

/// The line below the table.
fn sum(report: &Report) -> String {
    let count = |state| report.rows.iter().filter(|row| row.state == state).count();
    let alone = report.rows.iter().all(|row| row.step == Step::Configuration);
    let said = match report.severity() {
        Severity::Well if alone => "The configuration can be used.",
        Severity::Warnings if alone => "The configuration can be used; read the warnings.",
        Severity::Well => "Everything works.",
        Severity::Warnings => "It works, with warnings.",
        Severity::Misconfigured => "The configuration cannot be used.",
        Severity::Failures => "Something does not work; start with the first FAIL.",
    };
    let pass = count(State::Pass);
    let warn = count(State::Warn);
    let fail = count(State::Fail);
    let skipped = count(State::Skipped);
    format!("\n{said} {pass} PASS, {warn} WARN, {fail} FAIL, {skipped} SKIPPED\n")
}

/// Wraps text after a head, on lines of at most [`WIDTH`] columns. A longer word gets a line of its own.
fn wrapped(head: &str, text: &str) -> String {
    let mut out = head.to_owned();
    let mut column = INDENT;
    for (n, word) in text.split_whitespace().enumerate() {
        let len = word.chars().count();
        if n > 0 && column + 1 + len > WIDTH {
            let _ = write!(out, "\n{:INDENT$}", "");
            column = INDENT;
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::check::report::Verdict;

    #[test]
    fn a_row_has_columns_and_its_advice_below() {
        let fail = Verdict::fail("word ".repeat(40), "do something");
        let text = row_lines(&Row::new(Step::NameService, Instant::now(), fail));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("FAIL     name service   word word"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(lines[1].starts_with(&format!("{}word", " ".repeat(INDENT))), "{text}");
        assert_eq!(lines.last().unwrap().trim(), "→ do something");
        let path = Row::new(Step::Path, Instant::now(), Verdict::pass("fine")).about("file:/a");
        assert_eq!(row_lines(&path), "PASS     path           file:/a: fine\n");
    }
}
