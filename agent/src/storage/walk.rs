//! Searches below a root: first along the steps of an expanded pattern, then in all directories below.
//!
//! Reads several directories at a time, because a disk across the network needs some time for each, and can serve
//! several at once.

use std::{
    io,
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Scope},
    time::Instant,
};

use cap_std::fs::Dir;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::storage::{
    directory::{self, Entry, MAX_DEPTH, Names, Shortfall},
    expand::Step,
};

/// The clock is read once for this many entries: often enough to end within a millisecond of the deadline on a disk
/// that answers, and seldom enough to cost nothing noticeable.
const ENTRIES_PER_CHECK: u32 = 128;
/// Directories that one search reads at a time.
const READERS: usize = 4;

/// How long a search may go on, and whether it was cancelled.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Budget {
    pub(crate) fn is_spent(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.deadline.is_some_and(|end| Instant::now() >= end)
    }
}

/// The result of a search.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The paths of the recordings below the root.
    pub(crate) hits: Vec<PathBuf>,
    /// Whether each of the start directories exists.
    pub(crate) exist: Vec<bool>,
    /// Why the result may be incomplete.
    pub(crate) shortfall: Shortfall,
}

/// One search below one root.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) root: &'a Dir,
    pub(crate) budget: &'a Budget,
    pub(crate) names: Names<'a>,
}

impl Walk<'_> {
    /// The directories at the end of `steps`, relative to the root. A directory with an exact name need not exist.
    pub(crate) fn descend(&self, steps: &[Step], shortfall: &mut Shortfall) -> Vec<PathBuf> {
        let mut here = vec![PathBuf::new()];
        for step in steps {
            let mut next = Vec::new();
            for parent in here {
                match step {
                    Step::Exact(name) => next.push(parent.join(name)),
                    Step::Like(_) => self
                        .children(&parent, step, &mut next, shortfall)
                        .unwrap_or_else(|error| shortfall.note(error)),
                }
            }
            here = next;
        }
        here
    }

    fn children(
        &self,
        parent: &Path,
        step: &Step,
        into: &mut Vec<PathBuf>,
        shortfall: &mut Shortfall,
    ) -> io::Result<()> {
        let mut clock = Clock::new(self.budget);
        for entry in directory::open(self.root, parent)?.entries()? {
            if clock.is_over() {
                shortfall.out_of_time = true;
                break;
            }
            let Ok(entry) = entry.map_err(|error| shortfall.note(error)) else { continue };
            let name = entry.file_name();
            let admitted = step.admits(name.as_bytes()) && self.names.lead_on(name.as_bytes());
            // A link is treated like a directory. If it leads to something else, opening it fails.
            let file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if admitted && !file {
                into.push(parent.join(name));
            }
        }
        Ok(())
    }

    /// Searches these directories and all directories below them.
    pub(crate) fn search(&self, starts: &[PathBuf]) -> Found {
        let tasks = starts.iter().enumerate().map(|(start, path)| Task {
            path: path.clone(),
            depth: 0,
            start: Some(start),
        });
        let shared = Shared::new(tasks.collect(), starts.len());
        thread::scope(|scope| self.work(scope, &shared));
        shared.state.into_inner().found
    }

    /// Reads directories until none is left. Starts another reader if more directories are pool.
    fn work<'s>(&'s self, scope: &'s Scope<'s, '_>, shared: &'s Shared) {
        while let Some(task) = shared.next() {
            if shared.wants_help() {
                scope.spawn(|| self.work(scope, shared));
            }
            let mut seen = Seen::default();
            if let Err(error) = self.enter(&task, &mut seen) {
                seen.shortfall.note(error);
            }
            shared.done(&task, seen);
        }
    }

    fn enter(&self, task: &Task, seen: &mut Seen) -> io::Result<()> {
        let mut clock = Clock::new(self.budget);
        if clock.is_over() {
            seen.shortfall.out_of_time = true;
            return Ok(());
        }
        let directory = directory::open(self.root, &task.path)?;
        seen.exists = true;
        directory::read((self.root, &directory), &task.path, self.names, &mut |entry| {
            if clock.is_over() {
                seen.shortfall.out_of_time = true;
                return ControlFlow::Break(());
            }
            match entry {
                Ok(Some(Entry::Recording(name))) => seen.hits.push(task.path.join(name)),
                Ok(Some(Entry::DirectoryRow(name))) if task.depth < MAX_DEPTH => {
                    let path = task.path.join(name);
                    seen.below.push(Task { path, depth: task.depth + 1, start: None });
                }
                Ok(Some(Entry::DirectoryRow(_)) | None) => {}
                Err(error) => seen.shortfall.note(error),
            }
            ControlFlow::Continue(())
        })
    }
}

/// Checks the budget once for [`ENTRIES_PER_CHECK`] entries.
struct Clock<'a> {
    budget: &'a Budget,
    entries: u32,
}

impl<'a> Clock<'a> {
    fn new(budget: &'a Budget) -> Self {
        Self { budget, entries: 0 }
    }

    fn is_over(&mut self) -> bool {
        self.entries = self.entries.wrapping_add(1);
        self.entries % ENTRIES_PER_CHECK == 1 && self.budget.is_spent()
    }
}

/// A directory to be read.
struct Task {
    path: PathBuf,
    depth: usize,
    /// The index of the start directory, if it is one.
    start: Option<usize>,
}

/// The result of reading one directory.
#[derive(Default)]
struct Seen {
    exists: bool,
    hits: Vec<PathBuf>,
    below: Vec<Task>,
    shortfall: Shortfall,
}

/// The state that all readers share.
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    pool: Vec<Task>,
    reading: usize,
    readers: usize,
    found: Found,
}

impl Shared {
    fn new(pool: Vec<Task>, starts: usize) -> Self {
        let found = Found { exist: vec![false; starts], ..Found::default() };
        Self { state: Mutex::new(State { pool, reading: 0, readers: 1, found }), more: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The next directory to read. Waits for one if others are still being read; `None` if all are done.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.pool.pop() {
                state.reading += 1;
                return Some(task);
            }
            if state.reading == 0 {
                return None;
            }
            self.more.wait(&mut state);
        }
    }

    /// Whether to start another reader. If so, it is counted already.
    fn wants_help(&self) -> bool {
        let mut state = self.lock();
        let wanted = !state.pool.is_empty() && state.readers < READERS;
        state.readers += usize::from(wanted);
        wanted
    }

    fn done(&self, task: &Task, seen: Seen) {
        let mut state = self.lock();
        if let Some(exists) = task.start.and_then(|start| state.found.exist.get_mut(start)) {
            *exists = seen.exists;
        }
        state.found.hits.extend(seen.hits);
        state.found.shortfall.add(seen.shortfall);
        state.pool.extend(seen.below);
        state.reading -= 1;
        self.more.notify_all();
    }
}
