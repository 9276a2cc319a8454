//! The way down from a root: through the steps of an expanded pattern, then everywhere beneath.

use std::{
    collections::HashSet,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use cap_std::fs::{Dir, DirEntry, MetadataExt};

use crate::vault::{expand::Step, open::leads_out};

/// Levels of directories below an expanded pattern. Recordings lie a handful deep; this ends a loop of links.
pub(crate) const MAX_DEPTH: usize = 32;
/// The clock is read once in so many entries: often enough to end within a millisecond of the deadline on a disk
/// that answers, rarely enough not to be felt.
const ENTRIES_PER_CHECK: u32 = 128;

/// Directories that appliances and file systems leave about; never entered.
const DEBRIS: [&[u8]; 6] =
    [b"#recycle", b"@Recycle", b"@eaDir", b"@Recently-Snapshot", b"#snapshot", b"lost+found"];

/// Whether a name belongs to what appliances and file systems leave about, or is hidden.
pub(crate) fn is_debris(name: &[u8]) -> bool {
    name.starts_with(b".") || DEBRIS.contains(&name)
}

/// How long a search may go on, and whether anybody still wants it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) deadline: Instant,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Budget {
    pub(crate) fn is_spent(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}

/// Why a walk did not see everything.
#[derive(Debug, Default)]
pub(crate) struct Shortfall {
    /// The budget was spent.
    pub(crate) out_of_time: bool,
    /// The first directory that could not be read, and why.
    pub(crate) unreadable: Option<io::Error>,
}

impl Shortfall {
    pub(crate) fn note(&mut self, error: io::Error) {
        // What has vanished since it was listed, or leads out of the root, is simply not there.
        let absent = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        if !absent && !leads_out(&error) && self.unreadable.is_none() {
            self.unreadable = Some(error);
        }
    }
}

/// One walk beneath one root. `wanted` judges names of files, `skipped` names of directories.
pub(crate) struct Walk<'a> {
    pub(crate) root: &'a Dir,
    pub(crate) budget: &'a Budget,
    pub(crate) wanted: &'a dyn Fn(&[u8]) -> bool,
    pub(crate) skipped: &'a dyn Fn(&[u8]) -> bool,
    pub(crate) hits: Vec<PathBuf>,
    pub(crate) shortfall: Shortfall,
    linked: HashSet<(u64, u64)>,
    entries: u32,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        root: &'a Dir,
        budget: &'a Budget,
        wanted: &'a dyn Fn(&[u8]) -> bool,
        skipped: &'a dyn Fn(&[u8]) -> bool,
    ) -> Self {
        Self {
            root,
            budget,
            wanted,
            skipped,
            hits: Vec::new(),
            shortfall: Shortfall::default(),
            linked: HashSet::new(),
            entries: 0,
        }
    }

    /// The existing directories at the end of `steps`, relative to the root.
    pub(crate) fn descend(&mut self, steps: &[Step]) -> Vec<PathBuf> {
        let mut here = vec![PathBuf::new()];
        for step in steps {
            let mut next = Vec::new();
            for parent in here {
                match step {
                    Step::Exact(name) => next.push(parent.join(name)),
                    Step::Like(_) => self.children(&parent, step, &mut next),
                }
            }
            here = next;
        }
        here
    }

    fn children(&mut self, parent: &Path, step: &Step, into: &mut Vec<PathBuf>) {
        let entries = match self.open(parent).and_then(|dir| dir.entries()) {
            Ok(entries) => entries,
            Err(error) => return self.shortfall.note(error),
        };
        for entry in entries {
            if self.is_over() {
                return;
            }
            let Ok(entry) = entry.map_err(|error| self.shortfall.note(error)) else { continue };
            let name = entry.file_name();
            let admitted = step.admits(name.as_bytes()) && !self.is_debris(name.as_bytes());
            // A link is tried like a directory; if it is none, opening it says so.
            let file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if admitted && !file {
                into.push(parent.join(name));
            }
        }
    }

    /// Looks through a directory and everything beneath; `false` if it is not there.
    pub(crate) fn search(&mut self, path: &Path) -> bool {
        match self.open(path) {
            Ok(dir) => {
                self.enter(&dir, path, 0);
                true
            }
            Err(error) => {
                self.shortfall.note(error);
                false
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Dir> {
        if path.as_os_str().is_empty() { self.root.try_clone() } else { self.root.open_dir(path) }
    }

    fn enter(&mut self, dir: &Dir, path: &Path, depth: usize) {
        let entries = match dir.entries() {
            Ok(entries) => entries,
            Err(error) => return self.shortfall.note(error),
        };
        for entry in entries {
            if self.is_over() {
                return;
            }
            match entry {
                Ok(entry) => {
                    self.visit(&entry, path, depth).unwrap_or_else(|error| self.shortfall.note(error))
                }
                Err(error) => self.shortfall.note(error),
            }
        }
    }

    fn visit(&mut self, entry: &DirEntry, path: &Path, depth: usize) -> io::Result<()> {
        let name = entry.file_name();
        let bytes = name.as_bytes();
        if bytes.starts_with(b".") {
            return Ok(());
        }
        let mut kind = entry.file_type()?;
        if !kind.is_file() && !kind.is_dir() && !kind.is_symlink() {
            // Some file systems do not tell in the listing.
            kind = entry.metadata()?.file_type();
        }
        let deeper = depth < MAX_DEPTH && !self.is_debris(bytes);
        if kind.is_file() && (self.wanted)(bytes) {
            self.hits.push(path.join(&name));
        } else if kind.is_dir() && deeper {
            self.enter(&entry.open_dir()?, &path.join(&name), depth + 1);
        } else if kind.is_symlink() {
            let path = path.join(&name);
            // Asked of the root, because a link may lead sideways and stay within it.
            let target = self.root.metadata(&path)?;
            if target.is_file() && (self.wanted)(bytes) {
                self.hits.push(path);
            } else if target.is_dir() && deeper && self.linked.insert((target.dev(), target.ino())) {
                self.enter(&self.root.open_dir(&path)?, &path, depth + 1);
            }
        }
        Ok(())
    }

    fn is_debris(&self, name: &[u8]) -> bool {
        is_debris(name) || (self.skipped)(name)
    }

    fn is_over(&mut self) -> bool {
        self.entries = self.entries.wrapping_add(1);
        if self.entries % ENTRIES_PER_CHECK == 1 && self.budget.is_spent() {
            self.shortfall.out_of_time = true;
        }
        self.shortfall.out_of_time
    }
}
