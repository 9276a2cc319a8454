//! The fault matrix: every story of a fault adds its row, with what was promised and what was measured.

use std::{fmt::Display, io::Write};

/// Adds a row to the file that `AUDIOVAULT_FAULTS` names, where it names one, and shows it to whoever runs the story by
/// hand.
pub fn row(part: &str, fault: &str, promised: &str, measured: impl Display) {
    show("AUDIOVAULT_FAULTS", &format!("| {part} | {fault} | {promised} | {measured} |"));
}

/// Shows what does not fit into a row: beneath the matrix, by the file that `AUDIOVAULT_FIGURES` names.
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

/// Whether the stories that take longer than a minute are wanted; `tests/run --long` wants them.
pub fn is_long() -> bool {
    std::env::var_os("AUDIOVAULT_LONG").is_some()
}
