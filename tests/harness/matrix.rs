//! The fault matrix: every test of a fault adds a row with the promised and the measured behaviour.

use std::{fmt::Display, io::Write};

/// Prints a row and, if `AUDIOVAULT_FAULTS` names a file, appends the row to it.
pub fn row(part: &str, fault: &str, promised: &str, measured: impl Display) {
    show("AUDIOVAULT_FAULTS", &format!("| {part} | {fault} | {promised} | {measured} |"));
}

/// Prints a text that does not fit into a row and, if `AUDIOVAULT_FIGURES` names a file, appends it there, to be shown
/// below the matrix.
pub fn figure(text: &str) {
    show("AUDIOVAULT_FIGURES", text);
}

fn show(variable: &str, text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
    if let Some(file) = std::env::var_os(variable) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("a file");
        writeln!(file, "{text}").expect("room on the disk");
    }
}

/// Whether tests that take longer than a minute should run. `tests/run --long` sets this.
pub fn is_long() -> bool {
    std::env::var_os("AUDIOVAULT_LONG").is_some()
}
