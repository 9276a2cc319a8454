//! Counts the recordings and finds the age of the newest one, so that a PBX that stopped recording is noticed.
//!
//! A directory whose modification time has not changed since it was read is not read again. Ten years in directories
//! by date therefore cost one look at each directory. Modification times of directories are correct on NFS and SMB
//! too.

use std::{collections::HashMap, convert::Infallible, ffi::OsString, io, path::PathBuf, time::SystemTime};

use audiovault_agent_core::media::Extensions;
use cap_std::fs::Dir;

use crate::storage::{
    directory::{COARSEST_CLOCK, Names, OpenDirectory},
    walk::{Budget, Entered, Pace, VisitError, Visitor, Walker},
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
    /// When it was read; `None` if the count ended before its last entry.
    read: Option<SystemTime>,
    own: Figures,
    below: Vec<OsString>,
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
    /// The error of the first directory that could not be read, or `Interrupted` if the budget was spent; the count is
    /// then incomplete.
    pub(crate) fn take(
        &mut self,
        root: &Dir,
        extensions: &Extensions,
        budget: &Budget,
    ) -> io::Result<Figures> {
        let is_recording = |name: &[u8]| extensions.of(name).is_some();
        let names = Names { recording: &is_recording, skipped: &is_recording };
        let mut count = Count::new(root, std::mem::take(&mut self.directories));
        let walker = Walker { root, budget, names, pace: Pace::default() };
        let Ok(walked) = walker.walk(vec![PathBuf::new()], &mut count);
        self.directories = count.seen;
        if walked.shortfall.out_of_time {
            return Err(io::ErrorKind::Interrupted.into());
        }
        walked.shortfall.unreadable.map_or(Ok(count.total), Err)
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
    known: HashMap<PathBuf, DirectoryRow>,
    seen: HashMap<PathBuf, DirectoryRow>,
    total: Figures,
}

impl<'a> Count<'a> {
    fn new(root: &'a Dir, known: HashMap<PathBuf, DirectoryRow>) -> Self {
        Self { root, known, seen: HashMap::new(), total: Figures::default() }
    }

    fn add(&mut self, directory: &OpenDirectory<'_>, row: DirectoryRow) {
        self.total.add(row.own);
        self.seen.insert(directory.path.to_owned(), row);
    }
}

impl Visitor for Count<'_> {
    type Reading = DirectoryRow;
    type Error = Infallible;

    /// Takes what the last count found, unless the directory may have changed.
    fn enter(
        &mut self,
        directory: &OpenDirectory<'_>,
        _depth: usize,
    ) -> Result<Entered<DirectoryRow>, VisitError<Infallible>> {
        let modified = directory.modified()?;
        let known = self.known.remove(directory.path).filter(|row| {
            row.modified == modified
                && row
                    .read
                    .is_some_and(|read| read.duration_since(modified).is_ok_and(|age| age > COARSEST_CLOCK))
        });
        if let Some(row) = known {
            let below = row.below.clone();
            self.add(directory, row);
            return Ok(Entered::Known(below));
        }
        let read = Some(SystemTime::now());
        Ok(Entered::Read(DirectoryRow { modified, read, own: Figures::default(), below: Vec::new() }))
    }

    fn recording(
        &mut self,
        directory: &OpenDirectory<'_>,
        row: &mut DirectoryRow,
        name: OsString,
    ) -> Result<(), VisitError<Infallible>> {
        let metadata = self.root.metadata(directory.path.join(name))?;
        let newest = metadata.modified().ok().map(cap_std::time::SystemTime::into_std);
        row.own.add(Figures { recordings: 1, newest });
        Ok(())
    }

    fn leave(
        &mut self,
        directory: &OpenDirectory<'_>,
        mut row: DirectoryRow,
        below: &[OsString],
        whole: bool,
    ) -> Result<(), Infallible> {
        row.below = below.to_vec();
        row.read = row.read.filter(|_| whole);
        self.add(directory, row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::{Arc, atomic::AtomicBool},
        time::Duration,
    };

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
            self.census.take(&root, &Extensions::default(), &Budget::until(&Arc::default())).unwrap()
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
    fn a_directory_that_was_read_in_part_is_read_again() {
        let mut place = Place::new();
        place.write("a.wav", DAY);
        place.write("b.wav", DAY);
        place.age_directory("");
        let root = Dir::open_ambient_dir(place.directory.path(), ambient_authority()).unwrap();
        let directory = OpenDirectory::open(&root, Path::new("")).unwrap();
        let mut count = Count::new(&root, HashMap::new());
        let Ok(Entered::Read(mut row)) = count.enter(&directory, 0) else { panic!("it is new") };
        assert!(count.recording(&directory, &mut row, "a.wav".into()).is_ok());
        let Ok(()) = count.leave(&directory, row, &[], false);
        place.census.directories = count.seen;
        assert_eq!(place.census.seen().recordings, 1);
        assert_eq!(place.take().recordings, 2);
    }

    #[test]
    fn counting_can_be_stopped() {
        let mut place = Place::new();
        place.write("a/b.wav", DAY);
        let root = Dir::open_ambient_dir(place.directory.path(), ambient_authority()).unwrap();
        let budget = Budget::until(&Arc::new(AtomicBool::new(true)));
        let stopped = place.census.take(&root, &Extensions::default(), &budget);
        assert_eq!(stopped.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
