//! How fast the background goes through folders.

use std::{thread, time::Duration};

/// After so many entries there is a pause, to leave the disk to calls and searches...
const ENTRIES_PER_PAUSE: u32 = 256;
/// ...for this long: a million files take four seconds longer.
const PAUSE: Duration = Duration::from_millis(1);

/// A pace.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    hurried: bool,
    entries: u32,
}

impl Pace {
    /// Without pauses.
    #[cfg(test)]
    pub(crate) fn hurried() -> Self {
        Self { hurried: true, entries: 0 }
    }

    /// Takes an entry; pauses now and then.
    pub(crate) fn breathe(&mut self) {
        self.entries = self.entries.wrapping_add(1);
        if !self.hurried && self.entries.is_multiple_of(ENTRIES_PER_PAUSE) {
            thread::sleep(PAUSE);
        }
    }
}
