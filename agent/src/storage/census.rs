//! Counts the recordings and finds the age of the newest one, so that a PBX that stopped recording is noticed.
//!
//! A directory whose modification time has not changed since it was read is not read again. Ten years in directories
//! by date therefore cost one look at each directory. Modification times of directories are correct on NFS and SMB
//! too.

use std::{
    collections::HashMap,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use cap_std::fs::Dir;

use crate::storage::{
    directory::{self, COARSEST_CLOCK, Entry, MAX_DEPTH, Names, Pace, Shortfall},
    media::Extensions,
};

/// The result of a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Recordings below the root.
    pub recordings: u64,
    /// When the newest of them was last written.
    pub newest: Option<SystemTime>,
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.recordings += other.recordings;
        self.newest = self.newest.max(other.newest);
    }
}

#[derive(Debug, Clone)]
struct DirectoryRow {
    modified: SystemTime,
    read: SystemTime,
    own: Figures,
    below: Vec<PathBuf>,
}

/// What is known about the directories below one root.
#[derive(Debug, Default)]
pub(crate) struct Census {
    directories: HashMap<PathBuf, DirectoryRow>,
}

impl Census {
    /// Counts the recordings below a root. Blocks, for minutes if many directories have changed.
    ///
    /// # Errors
    /// The error of the first directory that could not be read, or `Interrupted` if `cancelled` was set; the count is
    /// then incomplete.
    pub(crate) fn take(
        &mut self,
        root: &Dir,
        extensions: &Extensions,
        cancelled: &AtomicBool,
    ) -> io::Result<Figures> {
        let mut count = Count {
            root,
            extensions,
            cancelled,
            known: std::mem::take(&mut self.directories),
            seen: HashMap::new(),
            total: Figures::default(),
            shortfall: Shortfall::default(),
            pace: Pace::default(),
        };
        count.enter(PathBuf::new(), 0);
        self.directories = count.seen;
        if cancelled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        count.shortfall.unreadable.map_or(Ok(count.total), Err)
    }

    /// The result of the latest count, as far as it went.
    pub(crate) fn seen(&self) -> Figures {
        self.directories.values().fold(Figures::default(), |mut total, directory| {
            total.add(directory.own);
            total
        })
    }

    /// The directories with the newest recordings, at most `most` of them, newest first.
    pub(crate) fn latest(&self, most: usize) -> Vec<PathBuf> {
        let newest =
            |(path, directory): (&PathBuf, &DirectoryRow)| Some((directory.own.newest?, path.clone()));
        let mut directories: Vec<_> = self.directories.iter().filter_map(newest).collect();
        directories.sort_by(|a, b| b.cmp(a));
        directories.into_iter().take(most).map(|(_, path)| path).collect()
    }
}

struct Count<'a> {
    root: &'a Dir,
    extensions: &'a Extensions,
    cancelled: &'a AtomicBool,
    known: HashMap<PathBuf, DirectoryRow>,
    seen: HashMap<PathBuf, DirectoryRow>,
    total: Figures,
    shortfall: Shortfall,
    pace: Pace,
}

impl Count<'_> {
    fn enter(&mut self, path: PathBuf, depth: usize) {
        if depth > MAX_DEPTH || self.cancelled.load(Ordering::Relaxed) {
            return;
        }
        let directory = match self.directory(&path) {
            Ok(directory) => directory,
            Err(error) => return self.shortfall.note(error),
        };
        self.total.add(directory.own);
        let below: Vec<_> = directory.below.iter().map(|name| path.join(name)).collect();
        self.seen.insert(path, directory);
        for path in below {
            self.enter(path, depth + 1);
        }
    }

    /// The current state of a directory: from the last count, or read again if it may have changed.
    fn directory(&mut self, path: &Path) -> io::Result<DirectoryRow> {
        let dir = directory::open(self.root, path)?;
        let modified = directory::modified(&dir)?;
        let known = self.known.remove(path).filter(|directory| {
            directory.modified == modified
                && directory.read.duration_since(modified).is_ok_and(|age| age > COARSEST_CLOCK)
        });
        if let Some(directory) = known {
            return Ok(directory);
        }
        let mut directory =
            DirectoryRow { modified, read: SystemTime::now(), own: Figures::default(), below: Vec::new() };
        let extensions = self.extensions;
        let is_recording = |name: &[u8]| extensions.of(name).is_some();
        let names = Names { recording: &is_recording, skipped: &is_recording };
        let root = self.root;
        directory::read((root, &dir), path, names, &mut |entry| {
            if self.cancelled.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            self.pace.breathe();
            let added = entry.and_then(|entry| self.add(entry, path, &mut directory));
            added.unwrap_or_else(|error| self.shortfall.note(error));
            ControlFlow::Continue(())
        })?;
        Ok(directory)
    }

    fn add(&self, entry: Option<Entry>, path: &Path, directory: &mut DirectoryRow) -> io::Result<()> {
        match entry {
            Some(Entry::Recording(name)) => {
                let metadata = self.root.metadata(path.join(&name))?;
                let newest = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
                directory.own.add(Figures { recordings: 1, newest });
            }
            Some(Entry::DirectoryRow(name)) => directory.below.push(name.into()),
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;

    struct Place {
        directory: TempDir,
        census: Census,
    }

    impl Place {
        fn new() -> Self {
            Self { directory: TempDir::new().unwrap(), census: Census::default() }
        }

        fn write(&self, name: &str, age: Duration) {
            let path = self.directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }

        fn age_directory(&self, name: &str) {
            let directory = fs::File::open(self.directory.path().join(name)).unwrap();
            directory.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        }

        fn take(&mut self) -> Figures {
            let root = Dir::open_ambient_dir(self.directory.path(), ambient_authority()).unwrap();
            self.census.take(&root, &Extensions::default(), &AtomicBool::new(false)).unwrap()
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn recordings_are_counted_and_debris_is_not() {
        let mut place = Place::new();
        place.write("2026/11/01/a.wav", DAY);
        place.write("2026/11/02/b.WAV", 2 * DAY);
        place.write("2026/11/02/notes.txt", DAY / 2);
        place.write("@eaDir/c.wav", DAY / 2);
        place.write(".hidden.wav", DAY / 2);
        let figures = place.take();
        assert_eq!(place.census.seen(), figures);
        assert_eq!(place.census.latest(5), ["2026/11/01", "2026/11/02"].map(PathBuf::from));
        assert_eq!(place.census.latest(1).len(), 1);
        assert_eq!(figures.recordings, 2);
        let age = SystemTime::now().duration_since(figures.newest.unwrap()).unwrap();
        assert!(age >= DAY && age < DAY + Duration::from_secs(60), "{age:?}");
    }

    #[test]
    fn what_comes_and_goes_is_noticed_and_what_is_quiet_is_not_read_again() {
        let mut place = Place::new();
        place.write("old/a.wav", DAY);
        place.write("new/b.wav", DAY);
        place.age_directory("old");
        assert_eq!(place.take().recordings, 2);
        // Only reading the directory again would show a change that leaves its modification time as it was.
        place.write("old/unseen.wav", DAY);
        place.age_directory("old");
        let modified = place.census.directories[Path::new("old")].modified;
        let directory = fs::File::open(place.directory.path().join("old")).unwrap();
        directory.set_modified(modified).unwrap();
        place.write("new/c.wav", Duration::ZERO);
        let figures = place.take();
        assert_eq!(figures.recordings, 3);
        assert!(SystemTime::now().duration_since(figures.newest.unwrap()).unwrap() < DAY);
        fs::remove_dir_all(place.directory.path().join("new")).unwrap();
        assert_eq!(place.take().recordings, 1);
    }

    #[test]
    fn a_loop_of_links_is_walked_once() {
        let mut place = Place::new();
        place.write("a/b.wav", DAY);
        std::os::unix::fs::symlink("../a", place.directory.path().join("a/again")).unwrap();
        assert!(place.take().recordings <= 2);
    }

    #[test]
    fn counting_can_be_stopped() {
        let mut place = Place::new();
        place.write("a/b.wav", DAY);
        let root = Dir::open_ambient_dir(place.directory.path(), ambient_authority()).unwrap();
        let stopped = place.census.take(&root, &Extensions::default(), &AtomicBool::new(true));
        assert_eq!(stopped.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
