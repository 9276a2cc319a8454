//! The scan: brings an index up to date with the files below a root.
//!
//! A directory is read if its modification time has changed, which is correct on NFS and SMB too. It is read again
//! until a further change would show in that time.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cap_std::fs::Dir;

use super::{
    store::{Change, DirectoryRow, Store, StoreError, digest},
    watch::{IndexChanges, Watch},
};
use crate::storage::{
    directory::{self, COARSEST_CLOCK, Entry, MAX_DEPTH, Pace, Shortfall},
    tokens::{Rules, tokens},
    walk::Walk,
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
    walk: Walk<'a>,
    store: &'a Store,
    /// The watch that reports changes, and the absolute path of the root.
    watched: Option<(&'a Watch, &'a Path)>,
    rules: Rules,
    pace: Pace,
    done: Scanned,
    change: Change,
    /// Directories that `change` brings up to date, and whether they were read completely.
    filed: Vec<(PathBuf, bool)>,
    free_number: u32,
    seen: HashSet<PathBuf>,
    shortfall: Shortfall,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        (walk, store): (Walk<'a>, &'a Store),
        watched: Option<(&'a Watch, &'a Path)>,
        rules: Rules,
        pace: Pace,
    ) -> Self {
        Self {
            walk,
            store,
            watched,
            rules,
            pace,
            done: Scanned::default(),
            change: Change::default(),
            filed: Vec::new(),
            free_number: 0,
            seen: HashSet::new(),
            shortfall: Shortfall::default(),
        }
    }

    /// Scans all directories below these. Blocks, for minutes if many have changed.
    ///
    /// # Errors
    /// [`ScanError`]; what was stored before the error stays, and what was not seen is not removed.
    pub(super) fn run(mut self, bases: Vec<PathBuf>, shortfall: Shortfall) -> Result<Scanned, ScanError> {
        let began = nanoseconds(SystemTime::now());
        self.free_number = self.store.free_number()?;
        self.shortfall = shortfall;
        let mut pool: Vec<(PathBuf, usize)> = bases.into_iter().map(|base| (base, 0)).collect();
        while let Some((path, depth)) = pool.pop() {
            if self.walk.budget.is_spent() {
                return Err(ScanError::Cancelled);
            }
            if depth > MAX_DEPTH || !self.seen.insert(path.clone()) {
                continue;
            }
            let below = match self.enter(&path) {
                Ok(below) => below,
                Err(ScanError::Unreadable(error)) => {
                    if is_absent(&error) {
                        self.seen.remove(&path);
                    }
                    self.shortfall.note(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.done.directories += 1;
            pool.extend(below.iter().map(|name| (path.join(OsStr::from_bytes(name)), depth + 1)));
        }
        if let Some(error) = self.shortfall.unreadable.take() {
            self.write(0)?;
            return Err(ScanError::Unreadable(error));
        }
        if self.shortfall.out_of_time {
            return Err(ScanError::Cancelled);
        }
        self.forget_the_unseen()?;
        self.change.note_scan(began);
        self.write(0)?;
        Ok(self.done)
    }

    /// The subdirectories of a directory. Reads it if it may have changed.
    fn enter(&mut self, path: &Path) -> Result<Vec<Vec<u8>>, ScanError> {
        let directory = directory::open(self.walk.root, path).map_err(ScanError::Unreadable)?;
        let modified = directory::modified(&directory).map_err(ScanError::Unreadable)?;
        // The snapshot is dropped before the directory is read: redb does not reuse pages while a snapshot may read
        // them.
        let known = self.store.reading()?.directory(path)?;
        match known {
            Some(known) if known.settled && known.modified == nanoseconds(modified) => Ok(known.below),
            Some(known) => match self.take_changes(&directory, path, &known) {
                Some(below) => Ok(below),
                None => self.read(&directory, path, modified, Some(known)),
            },
            None => self.read(&directory, path, modified, None),
        }
    }

    /// Stores the reported changes of a watched directory instead of reading it. Returns its subdirectories.
    fn take_changes(&mut self, directory: &Dir, path: &Path, known: &DirectoryRow) -> Option<Vec<Vec<u8>>> {
        let (watch, _) = self.watched?;
        let news = watch.take(path, directory).filter(|news| !news.has_link(self.walk, path))?;
        if news == IndexChanges::default() {
            return Some(known.below.clone());
        }
        for gone in &news.gone {
            self.change.take_out(known.id, digest(gone.as_bytes()));
            self.done.removed += 1;
        }
        for name in news.appeared.iter().filter(|name| (self.walk.names.recording)(name.as_bytes())) {
            let tokens = tokens(name.as_bytes(), self.rules);
            if !tokens.is_empty() {
                self.change.file(known.id, name.as_bytes(), &tokens);
                self.done.added += 1;
            }
        }
        let mut directory = DirectoryRow { settled: false, ..known.clone() };
        let came = news.directories.iter().map(|name| name.as_bytes());
        let came = came.filter(|name| self.walk.names.lead_on(name)).map(<[u8]>::to_vec);
        directory.below.extend(came.filter(|name| !known.below.contains(name)).collect::<Vec<_>>());
        let below = directory.below.clone();
        // A process that does not watch the directory has to read it.
        directory.modified = i128::MIN;
        self.change.remember(path, directory);
        self.filed.push((path.to_owned(), false));
        Some(below)
    }

    fn read(
        &mut self,
        directory: &Dir,
        path: &Path,
        modified: SystemTime,
        known: Option<DirectoryRow>,
    ) -> Result<Vec<Vec<u8>>, ScanError> {
        self.done.read += 1;
        if let Some((watch, root)) = self.watched {
            watch.begin((root, path), directory, modified);
        }
        let known = known.unwrap_or_else(|| self.begin(path));
        let before = self.store.reading()?.digests(known.id)?;
        let mut there = vec![false; before.len()];
        let mut below: Vec<Vec<u8>> = Vec::new();
        let mut failed = None;
        let mut unsure = false;
        directory::read((self.walk.root, directory), path, self.walk.names, &mut |entry| {
            let judged = match entry {
                _ if self.walk.budget.is_spent() => Err(ScanError::Cancelled),
                Ok(Some(Entry::Recording(name))) => {
                    self.see(known.id, name.as_bytes(), (&before, &mut there)).map_err(ScanError::from)
                }
                Ok(Some(Entry::DirectoryRow(name))) => {
                    below.push(name.as_bytes().to_owned());
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => {
                    // An entry that could not be examined may be one that is in the index.
                    unsure |= !is_absent(&error);
                    self.shortfall.note(error);
                    Ok(())
                }
            };
            self.pace.breathe();
            judged.map_or_else(
                |error| {
                    failed = Some(error);
                    ControlFlow::Break(())
                },
                ControlFlow::Continue,
            )
        })
        .map_err(ScanError::Unreadable)?;
        if let Some(error) = failed {
            return Err(error);
        }
        if !unsure {
            let gone = before.iter().zip(there).filter(|(_, there)| !there);
            for (gone, _) in gone {
                self.change.take_out(known.id, *gone);
                self.done.removed += 1;
            }
            // In the same transaction as the last of its names: if the process ends before, the directory is read
            // again.
            self.change.remember(path, as_read(&known, modified, &below));
            self.filed.push((path.to_owned(), true));
        }
        self.write(BATCH)?;
        Ok(below)
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

    fn see(
        &mut self,
        directory: u32,
        name: &[u8],
        (before, there): (&[u64], &mut [bool]),
    ) -> Result<(), StoreError> {
        if let Ok(at) = before.binary_search(&digest(name)) {
            if let Some(there) = there.get_mut(at) {
                *there = true;
            }
            return Ok(());
        }
        let tokens = tokens(name, self.rules);
        if !tokens.is_empty() {
            self.change.file(directory, name, &tokens);
            self.done.added += 1;
        }
        self.write(BATCH)
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

    /// Removes directories that no longer exist.
    fn forget_the_unseen(&mut self) -> Result<(), StoreError> {
        self.write(0)?;
        let mut directories = self.store.reading()?.directories()?;
        directories.retain(|(_, path)| !self.seen.contains(path));
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
fn as_read(known: &DirectoryRow, modified: SystemTime, below: &[Vec<u8>]) -> DirectoryRow {
    let now = SystemTime::now();
    let at = nanoseconds(modified);
    let first_seen = if known.modified == at { known.first_seen } else { nanoseconds(now) };
    let age = now.duration_since(modified).unwrap_or_default();
    let seen_for = Duration::from_nanos(u64::try_from(nanoseconds(now) - first_seen).unwrap_or(0));
    let settled = age > CLOCKS_DIFFER || (age > COARSEST_CLOCK && seen_for > COARSEST_CLOCK);
    DirectoryRow { id: known.id, modified: at, first_seen, settled, below: below.to_vec() }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A time in nanoseconds since the Unix epoch.
pub(super) fn nanoseconds(time: SystemTime) -> i128 {
    let whole = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    }
}
