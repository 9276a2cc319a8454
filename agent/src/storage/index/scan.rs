//! The scan: brings an index up to date with the files below a root.
//!
//! A directory is read if its modification time has changed, which is correct on NFS and SMB too. It is read again
//! until a further change would show in that time.

use std::{
    borrow::Cow,
    collections::HashSet,
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use audiovault_agent_core::tokens::{Rules, tokens};
use audiovault_common::advice::Advice;

use super::{
    names_of,
    store::{Change, DirectoryRow, Store, StoreError, digest},
    watch::{IndexChanges, Watch},
};
use crate::storage::{
    directory::{COARSEST_CLOCK, OpenDirectory},
    walk::{Entered, Shortfall, VisitError, Visitor, Walker, is_absent},
};

/// Number of names in one write: about ten megabytes.
const BATCH: usize = 100_000;
/// If a directory's modification time is older than this, it is trusted. The clocks of this machine and of a file
/// server may differ by this much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(15 * 60);

/// Why a scan did not finish.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The scan was cancelled.
    #[error("the scan was stopped")]
    Cancelled,
    /// A directory cannot be read; what was seen is in the index.
    #[error("a directory cannot be read")]
    Unreadable(#[source] io::Error),
    /// The index cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Advice for ScanError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Cancelled | Self::Unreadable(_) => None,
            Self::Store(error) => error.advice(),
        }
    }
}

/// The counts of a scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Directories below the root.
    pub directories: u64,
    /// Directories that had to be read.
    pub read: u64,
    /// Recordings that were added to the index.
    pub added: u64,
    /// Recordings that were removed from the index.
    pub removed: u64,
}

/// One scan.
pub(super) struct Scan<'a> {
    walker: Walker<'a>,
    store: &'a Store,
    /// The watch that reports changes, and the absolute path of the root.
    watched: Option<(&'a Watch, &'a Path)>,
    rules: Rules,
    done: Scanned,
    change: Change,
    /// Directories that `change` brings up to date, and whether they were read completely.
    filed: Vec<(PathBuf, bool)>,
    free_number: u32,
}

/// A directory that is being read.
pub(super) struct ReadInProgress {
    known: DirectoryRow,
    modified: SystemTime,
    /// The digests of the names that the index has.
    before: Vec<u64>,
    /// Which of them were seen.
    there: Vec<bool>,
    /// Whether an entry that could not be examined may be one that is in the index.
    unsure: bool,
}

impl From<StoreError> for VisitError<StoreError> {
    fn from(error: StoreError) -> Self {
        Self::Fatal(error)
    }
}

impl Visitor for Scan<'_> {
    type Reading = ReadInProgress;
    type Error = StoreError;

    /// Reads the directory only if it may have changed.
    fn enter(
        &mut self,
        directory: &OpenDirectory<'_>,
        _depth: usize,
    ) -> Result<Entered<ReadInProgress>, VisitError<StoreError>> {
        let path = directory.path;
        let modified = directory.modified()?;
        // The snapshot is dropped before the directory is read: redb does not reuse pages while a snapshot may read
        // them.
        let known = self.store.reading()?.directory(path)?;
        if let Some(known) = &known {
            let unchanged = known.settled && known.modified == nanoseconds(modified);
            let below =
                if unchanged { Some(known.below.clone()) } else { self.take_changes(directory, known) };
            if let Some(below) = below {
                self.done.directories += 1;
                return Ok(Entered::Known(names_of(below)));
            }
        }
        self.done.read += 1;
        if let Some((watch, root)) = self.watched {
            watch.begin(root, path, &directory.handle, modified);
        }
        let known = known.unwrap_or_else(|| self.begin(path));
        let before = self.store.reading()?.digests(known.id)?;
        let there = vec![false; before.len()];
        Ok(Entered::Read(ReadInProgress { known, modified, before, there, unsure: false }))
    }

    fn recording(
        &mut self,
        _directory: &OpenDirectory<'_>,
        reading: &mut ReadInProgress,
        name: OsString,
    ) -> Result<(), VisitError<StoreError>> {
        let name = name.as_bytes();
        if let Ok(at) = reading.before.binary_search(&digest(name)) {
            if let Some(there) = reading.there.get_mut(at) {
                *there = true;
            }
            return Ok(());
        }
        let tokens = tokens(name, self.rules);
        if !tokens.is_empty() {
            self.change.file(reading.known.id, name, &tokens);
            self.done.added += 1;
        }
        Ok(self.write(BATCH)?)
    }

    fn unexamined(&mut self, reading: &mut ReadInProgress, error: &io::Error) {
        reading.unsure |= !is_absent(error);
    }

    fn leave(
        &mut self,
        directory: &OpenDirectory<'_>,
        reading: ReadInProgress,
        below: &[OsString],
        whole: bool,
    ) -> Result<(), StoreError> {
        self.done.directories += 1;
        if whole && !reading.unsure {
            let gone = reading.before.iter().zip(&reading.there).filter(|(_, there)| !**there);
            for (gone, _) in gone {
                self.change.take_out(reading.known.id, *gone);
                self.done.removed += 1;
            }
            // In the same transaction as the last of its names: if the process ends before, the directory is read
            // again.
            self.change.remember(directory.path, as_read(&reading.known, reading.modified, below));
            self.filed.push((directory.path.to_owned(), true));
        }
        self.write(BATCH)
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        walker: Walker<'a>,
        store: &'a Store,
        watched: Option<(&'a Watch, &'a Path)>,
        rules: Rules,
    ) -> Self {
        Self {
            walker,
            store,
            watched,
            rules,
            done: Scanned::default(),
            change: Change::default(),
            filed: Vec::new(),
            free_number: 0,
        }
    }

    /// Scans all directories below these. Blocks, for minutes if many have changed.
    ///
    /// # Errors
    /// [`ScanError`]; what was stored before the error stays, and what was not seen is not removed.
    pub(super) fn run(mut self, bases: Vec<PathBuf>, mut shortfall: Shortfall) -> Result<Scanned, ScanError> {
        let began = nanoseconds(SystemTime::now());
        self.free_number = self.store.free_number()?;
        let walker = self.walker;
        let walked = walker.walk(bases, &mut self)?;
        shortfall.add(walked.shortfall);
        if shortfall.out_of_time {
            return Err(ScanError::Cancelled);
        }
        if let Some(error) = shortfall.unreadable {
            self.write(0)?;
            return Err(ScanError::Unreadable(error));
        }
        self.forget_all_but(&walked.seen)?;
        self.change.note_scan(began);
        self.write(0)?;
        Ok(self.done)
    }

    /// Stores the reported changes of a watched directory instead of reading it. Returns its subdirectories.
    fn take_changes(&mut self, directory: &OpenDirectory<'_>, known: &DirectoryRow) -> Option<Vec<Vec<u8>>> {
        let path = directory.path;
        let names = self.walker.names;
        let (watch, _) = self.watched?;
        let news = watch.take(path, &directory.handle).filter(|news| !news.has_link(self.walker, path))?;
        if news == IndexChanges::default() {
            return Some(known.below.clone());
        }
        for gone in &news.gone {
            self.change.take_out(known.id, digest(gone.as_bytes()));
            self.done.removed += 1;
        }
        for name in news.appeared.iter().filter(|name| (names.recording)(name.as_bytes())) {
            let tokens = tokens(name.as_bytes(), self.rules);
            if !tokens.is_empty() {
                self.change.file(known.id, name.as_bytes(), &tokens);
                self.done.added += 1;
            }
        }
        let mut row = DirectoryRow { settled: false, ..known.clone() };
        let came = news.directories.iter().map(|name| name.as_bytes());
        let came = came.filter(|name| names.lead_on(name)).map(<[u8]>::to_vec);
        row.below.extend(came.filter(|name| !known.below.contains(name)));
        let below = row.below.clone();
        // A process that does not watch the directory has to read it.
        row.modified = i128::MIN;
        self.change.remember(path, row);
        self.filed.push((path.to_owned(), false));
        Some(below)
    }

    /// A directory that was not known before. It is stored as one that is still to be read.
    fn begin(&mut self, path: &Path) -> DirectoryRow {
        let directory = DirectoryRow {
            id: self.free_number,
            modified: i128::MIN,
            first_seen: 0,
            settled: false,
            below: Vec::new(),
        };
        self.free_number = self.free_number.saturating_add(1);
        self.change.remember(path, directory.clone());
        directory
    }

    /// Writes the collected changes, if there are at least `least` names.
    fn write(&mut self, least: usize) -> Result<(), StoreError> {
        if self.change.len() < least {
            return Ok(());
        }
        self.store.apply(std::mem::take(&mut self.change))?;
        for (path, whole) in self.filed.drain(..) {
            if let Some((watch, _)) = self.watched {
                watch.filed(&path, whole);
            }
        }
        Ok(())
    }

    /// Removes the directories that no longer exist.
    fn forget_all_but(&mut self, seen: &HashSet<PathBuf>) -> Result<(), StoreError> {
        self.write(0)?;
        let mut directories = self.store.reading()?.directories()?;
        directories.retain(|(_, path)| !seen.contains(path));
        for (number, path) in directories {
            let filed = self.store.reading()?.digests(number)?;
            for gone in filed {
                self.change.take_out(number, gone);
                self.done.removed += 1;
                self.write(BATCH)?;
            }
            self.change.forget(path, number);
        }
        Ok(())
    }
}

/// The state of a directory that was just read and was last changed at `modified`.
fn as_read(known: &DirectoryRow, modified: SystemTime, below: &[OsString]) -> DirectoryRow {
    let now = SystemTime::now();
    let at = nanoseconds(modified);
    let first_seen = if known.modified == at { known.first_seen } else { nanoseconds(now) };
    let age = now.duration_since(modified).unwrap_or_default();
    let seen_for = Duration::from_nanos(u64::try_from(nanoseconds(now) - first_seen).unwrap_or(0));
    let settled = age > CLOCKS_DIFFER || (age > COARSEST_CLOCK && seen_for > COARSEST_CLOCK);
    let below = below.iter().map(|name| name.as_bytes().to_owned()).collect();
    DirectoryRow { id: known.id, modified: at, first_seen, settled, below }
}

/// A time in nanoseconds since the Unix epoch.
pub(super) fn nanoseconds(time: SystemTime) -> i128 {
    let whole = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    }
}
