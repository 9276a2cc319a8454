//! Collects the rows of a check, and passes each to a watcher at once.

use std::{fmt, time::Instant};

use super::report::{Row, Step, Verdict};

/// All rows so far.
pub(super) struct Rows<'w> {
    found: Vec<Row>,
    watcher: &'w mut dyn FnMut(&Row),
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("found", &self.found).finish_non_exhaustive()
    }
}

impl<'w> Rows<'w> {
    /// Starts without rows.
    pub(super) fn new(watcher: &'w mut dyn FnMut(&Row)) -> Self {
        Self { found: Vec::new(), watcher }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: Row) {
        (self.watcher)(&row);
        self.found.push(row);
    }

    /// Adds a row about a step that began at `begun`.
    pub(super) fn add(&mut self, step: Step, begun: Instant, verdict: Verdict) {
        self.push(Row::new(step, begun, verdict));
    }

    /// The rows about one relay.
    pub(super) fn with<'r>(&'r mut self, relay: &'r str) -> RelayRows<'r, 'w> {
        RelayRows { rows: self, relay }
    }

    /// All rows.
    pub(super) fn into_found(self) -> Vec<Row> {
        self.found
    }
}

/// Rows about one relay.
#[derive(Debug)]
pub(super) struct RelayRows<'r, 'w> {
    rows: &'r mut Rows<'w>,
    relay: &'r str,
}

impl RelayRows<'_, '_> {
    /// Adds a row about a step that began at `begun`.
    pub(super) fn add(&mut self, step: Step, begun: Instant, verdict: Verdict) {
        self.rows.push(Row::new(step, begun, verdict).with(self.relay));
    }

    /// Adds a row for each step that was skipped because `first` failed.
    pub(super) fn skip_after(&mut self, first: Step, steps: &[Step]) {
        for step in steps {
            self.add(*step, Instant::now(), Verdict::after(first));
        }
    }
}
