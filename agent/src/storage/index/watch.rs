//! Receives changes from the kernel (inotify), so that a directory into which a PBX writes all day is not read again
//! and again.
//!
//! The kernel reports changes that this machine makes, but not those that others make on a disk across the network.
//! So only directories on local file systems are watched. If a directory is not watched, or if reports may have been
//! lost, its modification time decides.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cap_std::fs::{Dir, MetadataExt};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::storage::{cached_read::is_own, walk::Walker};

/// The most directories that are watched; the kernel allows each user some thousands.
const MAX_WATCHES: usize = 4096;
/// A directory without a change for this long is not watched.
const QUIET_TIME: Duration = Duration::from_secs(7 * 86_400);
/// A watched directory is read anyway if it was last read longer ago than this.
const TRUSTED_FOR: Duration = Duration::from_secs(3600);
/// Names that are kept for a directory; with more changes than this, it is read.
const MOST_NEWS: usize = 100_000;

/// The changes in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IndexChanges {
    /// Names that exist now.
    pub(super) appeared: BTreeSet<OsString>,
    /// Names that no longer exist.
    pub(super) gone: BTreeSet<OsString>,
    /// Subdirectories that were added.
    pub(super) directories: BTreeSet<OsString>,
}

impl IndexChanges {
    fn add(&mut self, later: Self) {
        self.appeared.retain(|name| !later.gone.contains(name));
        self.gone.retain(|name| !later.appeared.contains(name));
        self.appeared.extend(later.appeared);
        self.gone.extend(later.gone);
        self.directories.extend(later.directories);
    }

    /// Whether a link was added that may lead to a directory; only reading the directory can show that.
    pub(super) fn has_link(&self, walker: Walker<'_>, path: &Path) -> bool {
        let root = walker.root;
        let names = walker.names;
        let mut others = self.appeared.iter().filter(|name| names.lead_on(name.as_bytes()));
        others.any(|name| root.symlink_metadata(path.join(name)).is_ok_and(|found| found.is_symlink()))
    }

    fn len(&self) -> usize {
        self.appeared.len() + self.gone.len() + self.directories.len()
    }
}

/// Watches directories below one root.
pub(super) struct Watch {
    kernel: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paths: HashMap<i32, PathBuf>,
    directories: HashMap<PathBuf, Watched>,
}

struct Watched {
    number: i32,
    /// Device and inode of the directory; another may have been mounted over it.
    identity: (u64, u64),
    /// When it was last read completely while it was watched.
    read: Option<SystemTime>,
    /// The changes that a scan has taken to store them. They stay after that, for searches that read an older
    /// snapshot.
    taken: IndexChanges,
    filed: bool,
    /// The changes since then.
    news: IndexChanges,
}

impl Watch {
    /// A watch without directories; `None` if the kernel does not provide one.
    pub(super) fn new() -> Option<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        Some(Self { kernel, state: Mutex::default() })
    }

    /// Begins to watch a directory that is about to be read completely, if that is useful. Changes from now on are
    /// collected.
    pub(super) fn begin(&self, root: &Path, path: &Path, directory: &Dir, modified: SystemTime) {
        let mut state = self.up_to_date();
        let Ok(identity) = identity(directory) else { return };
        if let Some(watched) = state.directories.get_mut(path).filter(|watched| watched.identity == identity)
        {
            return watched.take();
        }
        if let Some(before) = state.directories.remove(path) {
            state.paths.remove(&before.number);
            // The kernel may have removed the watch already.
            let _ = inotify::remove_watch(&self.kernel, before.number);
        }
        let quiet = SystemTime::now().duration_since(modified).is_ok_and(|age| age > QUIET_TIME);
        if quiet || state.directories.len() >= MAX_WATCHES || !is_own(directory) {
            return;
        }
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let Ok(number) = inotify::add_watch(&self.kernel, root.join(path), flags) else { return };
        // A directory has one watch, with the path by which it was reached first.
        if state.paths.get(&number).is_some_and(|known| known != path) {
            return;
        }
        state.paths.insert(number, path.to_owned());
        let taken = IndexChanges::default();
        let news = IndexChanges::default();
        state
            .directories
            .insert(path.to_owned(), Watched { number, identity, read: None, taken, filed: false, news });
    }

    /// The changes of a directory that are to be stored instead of reading it; `None` if it has to be read.
    pub(super) fn take(&self, path: &Path, directory: &Dir) -> Option<IndexChanges> {
        let mut state = self.up_to_date();
        let watched = state.directories.get_mut(path).filter(|watched| watched.is_trusted(directory))?;
        let fresh = watched.read.is_some_and(|read| read.elapsed().is_ok_and(|age| age < TRUSTED_FOR));
        if !fresh || watched.news.len() > MOST_NEWS {
            return None;
        }
        watched.take();
        Some(watched.taken.clone())
    }

    /// Notes that a directory was stored with the changes that were taken; `whole` if it was read completely.
    pub(super) fn filed(&self, path: &Path, whole: bool) {
        if let Some(watched) = self.lock().directories.get_mut(path) {
            watched.filed = true;
            if whole {
                watched.read = Some(SystemTime::now());
            }
        }
    }

    /// The changes of a directory that may not be in the index yet; `None` if they are not known.
    pub(super) fn news(&self, path: &Path, directory: &Dir) -> Option<IndexChanges> {
        let state = self.up_to_date();
        let watched = state.directories.get(path).filter(|watched| watched.is_trusted(directory))?;
        let mut all = watched.taken.clone();
        all.add(watched.news.clone());
        Some(all)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state, after all waiting reports of the kernel are read.
    fn up_to_date(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let mut room = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.kernel, &mut room);
        // Ends after the reports that are waiting now: an error means that there are no more.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            state.take_changes(event.wd(), event.events(), name);
        }
        state
    }
}

impl State {
    fn take_changes(&mut self, number: i32, events: ReadFlags, name: Option<OsString>) {
        let directory = events.contains(ReadFlags::ISDIR);
        let moved = ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        if events.contains(ReadFlags::QUEUE_OVERFLOW)
            || events.contains(ReadFlags::MOVE_SELF)
            || (directory && events.intersects(moved))
        {
            // Reports were lost, or the known paths are no longer correct.
            self.directories.clear();
            self.paths.clear();
            return;
        }
        if events.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT) {
            if let Some(path) = self.paths.get(&number) {
                self.directories.remove(path);
            }
            if events.contains(ReadFlags::IGNORED) {
                self.paths.remove(&number);
            }
            return;
        }
        let watched = self.paths.get(&number).and_then(|path| self.directories.get_mut(path));
        let (Some(watched), Some(name)) = (watched, name) else { return };
        let came = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        let mut news = IndexChanges::default();
        match (directory, came) {
            (true, true) => drop(news.directories.insert(name)),
            (false, true) => drop(news.appeared.insert(name)),
            (_, false) => drop(news.gone.insert(name)),
        }
        watched.news.add(news);
    }
}

impl Watched {
    fn is_trusted(&self, directory: &Dir) -> bool {
        self.read.is_some() && identity(directory).is_ok_and(|identity| identity == self.identity)
    }

    fn take(&mut self) {
        let news = std::mem::take(&mut self.news);
        if self.filed {
            self.taken = news;
        } else {
            self.taken.add(news);
        }
        self.filed = false;
    }
}

fn identity(directory: &Dir) -> io::Result<(u64, u64)> {
    let metadata = directory.dir_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;
    use crate::testing::put;

    struct Place {
        dir: TempDir,
        watch: Watch,
    }

    impl Place {
        fn new() -> Self {
            Self { dir: TempDir::new().unwrap(), watch: Watch::new().unwrap() }
        }

        fn directory(&self) -> Dir {
            Dir::open_ambient_dir(self.dir.path(), ambient_authority()).unwrap()
        }

        fn read(&self) {
            self.watch.begin(self.dir.path(), Path::new(""), &self.directory(), SystemTime::now());
            self.watch.filed(Path::new(""), true);
        }

        fn news(&self) -> Option<IndexChanges> {
            self.watch.news(Path::new(""), &self.directory())
        }
    }

    fn names(names: &[&str]) -> BTreeSet<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn changed_files_are_reported_at_once_and_until_they_are_filed() {
        let place = Place::new();
        assert_eq!(place.news(), None, "nothing is watched yet");
        place.read();
        assert_eq!(place.news(), Some(IndexChanges::default()));
        put(place.dir.path().join("a"), b"");
        put(place.dir.path().join("b"), b"");
        put(place.dir.path().join("below/c"), b"");
        fs::rename(place.dir.path().join("b"), place.dir.path().join("c")).unwrap();
        let news = IndexChanges {
            appeared: names(&["a", "c"]),
            gone: names(&["b"]),
            directories: names(&["below"]),
        };
        assert_eq!(place.news(), Some(news.clone()));
        assert_eq!(place.watch.take(Path::new(""), &place.directory()), Some(news.clone()));
        fs::remove_file(place.dir.path().join("a")).unwrap();
        let later = IndexChanges { appeared: names(&["c"]), gone: names(&["a", "b"]), ..news };
        assert_eq!(place.news(), Some(later.clone()));
        place.watch.filed(Path::new(""), false);
        assert_eq!(place.news(), Some(later), "for a reader that saw the earlier state");
        let gone = IndexChanges { gone: names(&["a"]), ..IndexChanges::default() };
        assert_eq!(place.watch.take(Path::new(""), &place.directory()), Some(gone));
    }

    #[test]
    fn a_folder_that_moved_or_is_another_is_not_believed() {
        let place = Place::new();
        put(place.dir.path().join("below/a"), b"");
        place.read();
        fs::rename(place.dir.path().join("below"), place.dir.path().join("other")).unwrap();
        assert_eq!(place.news(), None);
        place.read();
        assert_eq!(place.news(), Some(IndexChanges::default()));
        let other = TempDir::new().unwrap();
        let other = Dir::open_ambient_dir(other.path(), ambient_authority()).unwrap();
        assert_eq!(place.watch.news(Path::new(""), &other), None);
    }
}
