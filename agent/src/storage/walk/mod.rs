//! Walks through directories of recordings.
//!
//! A [`Walker`] reads directories within its bounds: how deep, how long, how fast. A [`Visitor`] says what is to be done
//! with what it meets. Searches, counts and scans of an index are visitors.

#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    convert::Infallible,
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Scope},
    time::{Duration, Instant},
};

use audiovault_agent_core::expand::Step;
use cap_std::fs::Dir;
use parking_lot::{Condvar, Mutex};
use rustix::fs::FileType;

use crate::storage::{
    directory::{Entry, Names, OpenDirectory},
    open::leads_out,
};

/// Levels of directories below the start of a walk. Recordings are only a few levels deep; the limit ends a loop of
/// mounts.
const MAX_DEPTH: usize = 32;
/// The clock is read once for this many entries: often enough to end within a millisecond of the deadline on a disk
/// that answers, and seldom enough to cost nothing noticeable.
const ENTRIES_PER_CHECK: u32 = 128;
/// Directories that one parallel walk reads at a time.
const READERS: usize = 4;
/// Number of entries between two pauses. The pauses leave the disk to calls and searches.
const ENTRIES_PER_PAUSE: u32 = 256;
/// Length of a pause: a million files take four seconds longer.
const PAUSE: Duration = Duration::from_millis(1);

/// How long a walk may go on, and whether it was cancelled.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Budget {
    /// No deadline: the walk ends early only if `cancelled` is set.
    pub(crate) fn until(cancelled: &Arc<AtomicBool>) -> Self {
        Self { deadline: None, cancelled: Arc::clone(cancelled) }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.is_cancelled() || self.deadline.is_some_and(|end| Instant::now() >= end)
    }
}

/// Counts directory entries, and pauses regularly, unless it is hurried.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    hurried: bool,
    entries: u32,
}

impl Pace {
    /// Never pauses.
    pub(crate) fn hurried() -> Self {
        Self { hurried: true, entries: 0 }
    }

    /// Counts one entry, and pauses after every [`ENTRIES_PER_PAUSE`].
    fn breathe(&mut self) {
        self.entries = self.entries.wrapping_add(1);
        if !self.hurried && self.entries.is_multiple_of(ENTRIES_PER_PAUSE) {
            thread::sleep(PAUSE);
        }
    }
}

/// Why a result may be incomplete.
#[derive(Debug, Default)]
pub(crate) struct Shortfall {
    /// The deadline passed, or the walk was cancelled.
    pub(crate) out_of_time: bool,
    /// The error of the first directory that could not be read.
    pub(crate) unreadable: Option<io::Error>,
}

impl Shortfall {
    pub(crate) fn note(&mut self, error: io::Error) {
        // An entry that has disappeared since it was listed, or that leads out of the root, counts as absent.
        if !is_absent(&error) && !leads_out(&error) && self.unreadable.is_none() {
            self.unreadable = Some(error);
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.out_of_time |= other.out_of_time;
        self.unreadable = self.unreadable.take().or(other.unreadable);
    }
}

/// Whether the error means that a file or directory does not exist.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What a visitor does with a directory that the walker has opened.
pub(crate) enum Entered<R> {
    /// It need not be read. These are the names of its subdirectories, which the walk enters.
    Known(Vec<OsString>),
    /// It is to be read. The value is the visitor's, until the directory is left.
    Read(R),
}

/// Why a visitor cannot use a directory or an entry.
pub(crate) enum VisitError<E> {
    /// It cannot be examined. The walk notes that and goes on.
    Unreadable(io::Error),
    /// The walk ends.
    Fatal(E),
}

impl<E> From<io::Error> for VisitError<E> {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// What is done with the directories of a walk. For each directory, `enter` is called first. If it says that the
/// directory is to be read, `recording` follows for each recording in it, and `leave` at the end.
pub(crate) trait Visitor {
    /// What the visitor keeps while it reads one directory.
    type Reading;
    /// What ends the walk, apart from its budget.
    type Error;

    /// A directory was opened. It is `depth` levels below the start of the walk.
    ///
    /// # Errors
    /// [`VisitError`]; if it is `Unreadable`, the directory is skipped.
    fn enter(
        &mut self,
        directory: &OpenDirectory<'_>,
        depth: usize,
    ) -> Result<Entered<Self::Reading>, VisitError<Self::Error>>;

    /// A recording was found in a directory.
    ///
    /// # Errors
    /// [`VisitError`]; if it is `Unreadable`, the entry is skipped.
    fn recording(
        &mut self,
        directory: &OpenDirectory<'_>,
        reading: &mut Self::Reading,
        name: OsString,
    ) -> Result<(), VisitError<Self::Error>>;

    /// An entry could not be examined.
    fn unexamined(&mut self, _reading: &mut Self::Reading, _error: &io::Error) {}

    /// A directory was read. `below` has the names of its subdirectories. `whole` is false if the budget ended the walk
    /// before the last entry.
    ///
    /// # Errors
    /// What ends the walk.
    fn leave(
        &mut self,
        _directory: &OpenDirectory<'_>,
        _reading: Self::Reading,
        _below: &[OsString],
        _whole: bool,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The result of a walk, beside what its visitor has.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// The directories that exist, as far as the walk went, also those that could not be read.
    pub(crate) seen: HashSet<PathBuf>,
    /// Why the result may be incomplete.
    pub(crate) shortfall: Shortfall,
}

/// Reads the directories below one root, within its bounds. Links are followed if they stay inside the root and do not
/// lead to a directory above. Each path is entered once.
#[derive(Clone, Copy)]
pub(crate) struct Walker<'a> {
    pub(crate) root: &'a Dir,
    pub(crate) budget: &'a Budget,
    pub(crate) names: Names<'a>,
    pub(crate) pace: Pace,
}

impl Walker<'_> {
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
        let directory = OpenDirectory::open(self.root, parent)?;
        for entry in directory.listing()? {
            if clock.is_over() {
                shortfall.out_of_time = true;
                break;
            }
            let Ok(entry) = entry.map_err(|error| shortfall.note(error)) else { continue };
            let name = entry.name();
            let admitted = step.admits(name.as_bytes()) && self.names.lead_on(name.as_bytes());
            // A link is treated like a directory. If it leads to something else, opening it fails.
            let file = entry.kind() == FileType::RegularFile;
            if admitted && !file {
                into.push(parent.join(name));
            }
        }
        Ok(())
    }

    /// Visits these directories and all directories below them, one after the other. Blocks.
    ///
    /// # Errors
    /// The visitor's.
    pub(crate) fn walk<V: Visitor>(&self, starts: Vec<PathBuf>, visitor: &mut V) -> Result<Walked, V::Error> {
        let pool = Pool::new(starts);
        self.work(&pool, visitor, &|| ())?;
        Ok(pool.into_walked())
    }

    /// Visits several directories at a time, because a disk across the network needs some time for each, and can serve
    /// several at once. Each reader has a visitor of its own; returns all of them. Blocks.
    pub(crate) fn walk_in_parallel<V>(&self, starts: Vec<PathBuf>) -> (Vec<V>, Walked)
    where
        V: Visitor<Error = Infallible> + Default + Send,
    {
        let pool = Pool::new(starts);
        let visitors = Mutex::default();
        thread::scope(|scope| self.work_in(scope, &pool, &visitors));
        (visitors.into_inner(), pool.into_walked())
    }

    /// One reader of a parallel walk. It starts another one if more directories are waiting.
    fn work_in<'s, V>(&'s self, scope: &'s Scope<'s, '_>, pool: &'s Pool, visitors: &'s Mutex<Vec<V>>)
    where
        V: Visitor<Error = Infallible> + Default + Send,
    {
        let mut visitor = V::default();
        let help = || {
            if pool.wants_help() {
                scope.spawn(|| self.work_in(scope, pool, visitors));
            }
        };
        let Ok(()) = self.work(pool, &mut visitor, &help);
        visitors.lock().push(visitor);
    }

    /// Visits directories until none is left. Calls `help` before each.
    fn work<V: Visitor>(&self, pool: &Pool, visitor: &mut V, help: &dyn Fn()) -> Result<(), V::Error> {
        let mut pace = self.pace;
        while let Some(task) = pool.next() {
            help();
            let mut visited = Visited::default();
            match self.visit(&task, visitor, &mut pace, &mut visited) {
                Ok(()) => {}
                Err(VisitError::Unreadable(error)) => {
                    visited.absent = is_absent(&error);
                    visited.shortfall.note(error);
                }
                Err(VisitError::Fatal(error)) => return Err(error),
            }
            pool.done(&task, visited);
        }
        Ok(())
    }

    fn visit<V: Visitor>(
        &self,
        task: &Task,
        visitor: &mut V,
        pace: &mut Pace,
        visited: &mut Visited,
    ) -> Result<(), VisitError<V::Error>> {
        let mut clock = Clock::new(self.budget);
        if clock.is_over() {
            visited.shortfall.out_of_time = true;
            return Ok(());
        }
        let directory = OpenDirectory::open(self.root, &task.path)?;
        let mut reading = match visitor.enter(&directory, task.depth)? {
            Entered::Known(below) => {
                visited.below = below;
                return Ok(());
            }
            Entered::Read(reading) => reading,
        };
        for entry in directory.entries(self.names)? {
            if clock.is_over() {
                visited.shortfall.out_of_time = true;
                break;
            }
            pace.breathe();
            let taken = match entry {
                Ok(Some(Entry::Recording(name))) => visitor.recording(&directory, &mut reading, name),
                Ok(Some(Entry::Directory(name))) => {
                    visited.below.push(name);
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            match taken {
                Ok(()) => {}
                Err(VisitError::Unreadable(error)) => {
                    visitor.unexamined(&mut reading, &error);
                    visited.shortfall.note(error);
                }
                Err(VisitError::Fatal(error)) => return Err(VisitError::Fatal(error)),
            }
        }
        let whole = !visited.shortfall.out_of_time;
        visitor.leave(&directory, reading, &visited.below, whole).map_err(VisitError::Fatal)
    }
}

/// Checks the budget: for every entry whether it was cancelled, and once for [`ENTRIES_PER_CHECK`] entries the clock.
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
        if self.entries % ENTRIES_PER_CHECK == 1 {
            self.budget.is_spent()
        } else {
            self.budget.is_cancelled()
        }
    }
}

/// A directory to be visited.
struct Task {
    path: PathBuf,
    depth: usize,
}

/// The result of visiting one directory.
#[derive(Default)]
struct Visited {
    below: Vec<OsString>,
    absent: bool,
    shortfall: Shortfall,
}

/// The directories to visit, which all readers share.
struct Pool {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    /// The last one is next, so that few directories wait: those below the directories of one way down.
    waiting: Vec<Task>,
    reading: usize,
    readers: usize,
    walked: Walked,
}

impl Pool {
    fn new(starts: Vec<PathBuf>) -> Self {
        let waiting = starts.into_iter().map(|path| Task { path, depth: 0 }).collect();
        let state = State { waiting, reading: 0, readers: 1, walked: Walked::default() };
        Self { state: Mutex::new(state), more: Condvar::new() }
    }

    fn into_walked(self) -> Walked {
        self.state.into_inner().walked
    }

    /// The next directory to visit. Waits for one if others are still being read; `None` if all are done.
    fn next(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            while let Some(task) = state.waiting.pop() {
                if state.walked.seen.insert(task.path.clone()) {
                    state.reading += 1;
                    return Some(task);
                }
            }
            if state.reading == 0 {
                return None;
            }
            self.more.wait(&mut state);
        }
    }

    /// Whether to start another reader. If so, it is counted already.
    fn wants_help(&self) -> bool {
        let mut state = self.state.lock();
        let wanted = !state.waiting.is_empty() && state.readers < READERS;
        state.readers += usize::from(wanted);
        wanted
    }

    fn done(&self, task: &Task, visited: Visited) {
        let mut state = self.state.lock();
        if visited.absent {
            state.walked.seen.remove(&task.path);
        }
        if task.depth < MAX_DEPTH {
            let below = visited.below.into_iter();
            let depth = task.depth + 1;
            state.waiting.extend(below.map(|name| Task { path: task.path.join(name), depth }));
        }
        state.walked.shortfall.add(visited.shortfall);
        if state.walked.shortfall.out_of_time {
            state.waiting.clear();
        }
        state.reading -= 1;
        self.more.notify_all();
    }
}
