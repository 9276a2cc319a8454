//! What the kernel tells of changes (inotify), so that a folder in which a PBX writes all day need not be read again and again.
//!
//! The kernel tells what this machine itself changes, and nothing of what others do to a disk across the network. So only
//! folders of file systems that are this machine's own are watched, and a folder that is not watched, or of which word may
//! have been lost, is judged by its modification time.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use cap_std::fs::{Dir, MetadataExt};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::vault::{at_hand::is_own, walk::Walk};

/// Folders that are watched at most; the kernel gives every user some thousands.
const MOST: usize = 4096;
/// Folders that nobody has touched for so long are not worth it.
const QUIET: Duration = Duration::from_secs(7 * 86_400);
/// A watched folder is read all the same when its last reading is so long ago.
const TRUSTED_FOR: Duration = Duration::from_secs(3600);
/// Names that are remembered of a folder; one with more news is read.
const MOST_NEWS: usize = 100_000;

/// What has happened in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Names that are there now.
    pub(super) appeared: BTreeSet<OsString>,
    /// Names that are not there any more.
    pub(super) gone: BTreeSet<OsString>,
    /// Folders that came.
    pub(super) folders: BTreeSet<OsString>,
}

impl News {
    fn add(&mut self, later: Self) {
        self.appeared.retain(|name| !later.gone.contains(name));
        self.gone.retain(|name| !later.appeared.contains(name));
        self.appeared.extend(later.appeared);
        self.gone.extend(later.gone);
        self.folders.extend(later.folders);
    }

    /// Whether a link came that may lead to a folder: only reading tells.
    pub(super) fn has_link(&self, walk: Walk<'_>, path: &Path) -> bool {
        let (root, names) = (walk.root, walk.names);
        let mut others = self.appeared.iter().filter(|name| names.lead_on(name.as_bytes()));
        others.any(|name| root.symlink_metadata(path.join(name)).is_ok_and(|found| found.is_symlink()))
    }

    fn len(&self) -> usize {
        self.appeared.len() + self.gone.len() + self.folders.len()
    }
}

/// Watches folders beneath one root.
pub(super) struct Watch {
    kernel: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paths: HashMap<i32, PathBuf>,
    folders: HashMap<PathBuf, Watched>,
}

struct Watched {
    number: i32,
    /// The folder itself; another may have been mounted over it.
    identity: (u64, u64),
    /// When it was read whole since it is watched, if it was.
    read: Option<SystemTime>,
    /// What a scan has taken to file it. Kept when it is filed, for searches that see the state before.
    taken: News,
    filed: bool,
    /// What has come since.
    news: News,
}

impl Watch {
    /// A watch over nothing; none where the kernel has none to give.
    pub(super) fn new() -> Option<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        Some(Self { kernel, state: Mutex::default() })
    }

    /// Begins to watch a folder that is about to be read whole, if that is worth it. What it tells from now on is news.
    pub(super) fn begin(&self, (root, path): (&Path, &Path), folder: &Dir, modified: SystemTime) {
        let mut state = self.heard();
        let Ok(identity) = identity(folder) else { return };
        if let Some(watched) = state.folders.get_mut(path).filter(|watched| watched.identity == identity) {
            return watched.take();
        }
        if let Some(before) = state.folders.remove(path) {
            state.paths.remove(&before.number);
            // It may be gone by itself.
            let _ = inotify::remove_watch(&self.kernel, before.number);
        }
        let quiet = SystemTime::now().duration_since(modified).is_ok_and(|age| age > QUIET);
        if quiet || state.folders.len() >= MOST || !is_own(folder) {
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
        // One folder has one watch, by whichever path it was reached first.
        if state.paths.get(&number).is_some_and(|known| known != path) {
            return;
        }
        state.paths.insert(number, path.to_owned());
        let (taken, news) = (News::default(), News::default());
        state
            .folders
            .insert(path.to_owned(), Watched { number, identity, read: None, taken, filed: false, news });
    }

    /// What is to be filed of a folder in place of reading it; nothing if it has to be read.
    pub(super) fn take(&self, path: &Path, folder: &Dir) -> Option<News> {
        let mut state = self.heard();
        let watched = state.folders.get_mut(path).filter(|watched| watched.is_trusted(folder))?;
        let fresh = watched.read.is_some_and(|read| read.elapsed().is_ok_and(|age| age < TRUSTED_FOR));
        if !fresh || watched.news.len() > MOST_NEWS {
            return None;
        }
        watched.take();
        Some(watched.taken.clone())
    }

    /// Notes that a folder has been filed as it was when it was taken, after it was read whole or not.
    pub(super) fn filed(&self, path: &Path, whole: bool) {
        if let Some(watched) = self.lock().folders.get_mut(path) {
            watched.filed = true;
            if whole {
                watched.read = Some(SystemTime::now());
            }
        }
    }

    /// What may have happened in a folder beyond what is filed of it; nothing if nobody knows.
    pub(super) fn news(&self, path: &Path, folder: &Dir) -> Option<News> {
        let state = self.heard();
        let watched = state.folders.get(path).filter(|watched| watched.is_trusted(folder))?;
        let mut all = watched.taken.clone();
        all.add(watched.news.clone());
        Some(all)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state after everything that the kernel has to tell.
    fn heard(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let mut room = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(&self.kernel, &mut room);
        // Ends with what has been told by now: an error says that there is no more.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            state.hear(event.wd(), event.events(), name);
        }
        state
    }
}

impl State {
    fn hear(&mut self, number: i32, events: ReadFlags, name: Option<OsString>) {
        let folder = events.contains(ReadFlags::ISDIR);
        let moved = ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        if events.contains(ReadFlags::QUEUE_OVERFLOW)
            || events.contains(ReadFlags::MOVE_SELF)
            || (folder && events.intersects(moved))
        {
            // Word was lost, or paths lead elsewhere now.
            self.folders.clear();
            self.paths.clear();
            return;
        }
        if events.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT) {
            if let Some(path) = self.paths.get(&number) {
                self.folders.remove(path);
            }
            if events.contains(ReadFlags::IGNORED) {
                self.paths.remove(&number);
            }
            return;
        }
        let watched = self.paths.get(&number).and_then(|path| self.folders.get_mut(path));
        let (Some(watched), Some(name)) = (watched, name) else { return };
        let came = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        let mut news = News::default();
        match (folder, came) {
            (true, true) => drop(news.folders.insert(name)),
            (false, true) => drop(news.appeared.insert(name)),
            (_, false) => drop(news.gone.insert(name)),
        }
        watched.news.add(news);
    }
}

impl Watched {
    fn is_trusted(&self, folder: &Dir) -> bool {
        self.read.is_some() && identity(folder).is_ok_and(|identity| identity == self.identity)
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

fn identity(folder: &Dir) -> io::Result<(u64, u64)> {
    let metadata = folder.dir_metadata()?;
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

        fn folder(&self) -> Dir {
            Dir::open_ambient_dir(self.dir.path(), ambient_authority()).unwrap()
        }

        fn read(&self) {
            self.watch.begin((self.dir.path(), Path::new("")), &self.folder(), SystemTime::now());
            self.watch.filed(Path::new(""), true);
        }

        fn news(&self) -> Option<News> {
            self.watch.news(Path::new(""), &self.folder())
        }
    }

    fn names(names: &[&str]) -> BTreeSet<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_comes_and_goes_is_told_at_once_and_until_it_is_filed() {
        let place = Place::new();
        assert_eq!(place.news(), None, "nobody watches yet");
        place.read();
        assert_eq!(place.news(), Some(News::default()));
        put(place.dir.path().join("a"), b"");
        put(place.dir.path().join("b"), b"");
        put(place.dir.path().join("below/c"), b"");
        fs::rename(place.dir.path().join("b"), place.dir.path().join("c")).unwrap();
        let news = News { appeared: names(&["a", "c"]), gone: names(&["b"]), folders: names(&["below"]) };
        assert_eq!(place.news(), Some(news.clone()));
        assert_eq!(place.watch.take(Path::new(""), &place.folder()), Some(news.clone()));
        fs::remove_file(place.dir.path().join("a")).unwrap();
        let later = News { appeared: names(&["c"]), gone: names(&["a", "b"]), ..news };
        assert_eq!(place.news(), Some(later.clone()));
        place.watch.filed(Path::new(""), false);
        assert_eq!(place.news(), Some(later), "for whoever sees the state before");
        let gone = News { gone: names(&["a"]), ..News::default() };
        assert_eq!(place.watch.take(Path::new(""), &place.folder()), Some(gone));
    }

    #[test]
    fn a_folder_that_moved_or_is_another_is_not_believed() {
        let place = Place::new();
        put(place.dir.path().join("below/a"), b"");
        place.read();
        fs::rename(place.dir.path().join("below"), place.dir.path().join("other")).unwrap();
        assert_eq!(place.news(), None);
        place.read();
        assert_eq!(place.news(), Some(News::default()));
        let other = TempDir::new().unwrap();
        let other = Dir::open_ambient_dir(other.path(), ambient_authority()).unwrap();
        assert_eq!(place.watch.news(Path::new(""), &other), None);
    }
}
