//! Limits how fast background work reads directories.

use std::{thread, time::Duration};

/// Number of entries between two pauses. The pauses leave the disk to calls and searches.
const ENTRIES_PER_PAUSE: u32 = 256;
/// Length of a pause: a million files take four seconds longer.
const PAUSE: Duration = Duration::from_millis(1);

/// Counts directory entries, and pauses regularly.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    hurried: bool,
    entries: u32,
}

impl Pace {
    /// Never pauses.
    #[cfg(test)]
    pub(crate) fn hurried() -> Self {
        Self { hurried: true, entries: 0 }
    }

    /// Counts one entry, and pauses after every [`ENTRIES_PER_PAUSE`].
    pub(crate) fn breathe(&mut self) {
        self.entries = self.entries.wrapping_add(1);
        if !self.hurried && self.entries.is_multiple_of(ENTRIES_PER_PAUSE) {
            thread::sleep(PAUSE);
        }
    }
}
