//! The `file:` driver: searches one path pattern and opens its recordings.

use std::{
    borrow::Cow,
    collections::HashSet,
    convert::Infallible,
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::SystemTime,
};

use audiovault_agent_core::{
    call_id::CallId,
    expand::{self, Step},
    layout::is_decided_by_its_head,
    pattern::Pattern,
    query::Query,
};
use audiovault_common::advice::Advice;
use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt},
};

use crate::storage::{
    StorageSettings,
    cached_read::{self, CachedOpen, OwnDevice},
    census::{Census, Figures},
    deny_list::InForce,
    directory::{Names, OpenDirectory},
    index::{Index, Known, ScanError, Scanned},
    open::{Closing, ContentInfo, OpenError, OpenRecording},
    recording::{Recording, Resolved},
    root_id::RootId,
    sample::{self, Among, Sampled},
    walk::{Budget, Entered, Pace, Shortfall, VisitError, Visitor, Walker},
};

/// The most directories that a report lists; a search without a date may enter thousands.
const MAX_REPORTED: usize = 1000;

/// Why a driver could not search everything.
#[derive(Debug, thiserror::Error)]
pub enum DriverFault {
    /// The root does not exist or cannot be opened.
    #[error("the directory {} cannot be read", root.display())]
    Root {
        /// The literal part of the pattern.
        root: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The root lacks its sentinel file, which is there while the storage is mounted.
    #[error("the directory {} has no sentinel file", .0.display())]
    Sentinel(PathBuf),
    /// A directory below the root cannot be read.
    #[error("a directory below {} cannot be read", root.display())]
    Unreadable {
        /// The literal part of the pattern.
        root: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The search was not finished in time.
    #[error("the search below {} took too long", .0.display())]
    Slow(PathBuf),
    /// Opening the root did not return in time.
    #[error("the storage of {} does not answer", .0.display())]
    Stalled(PathBuf),
}

impl Advice for DriverFault {
    fn advice(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Root { .. } => "is it mounted, and may the agent read it?".into(),
            Self::Sentinel(_) => "its disk or share is probably not mounted".into(),
            Self::Unreadable { .. } => "check its permissions and the disk".into(),
            Self::Slow(_) => "limit the path pattern by date, or check the disk".into(),
            Self::Stalled(_) => "check the machine that has it, and the network to it".into(),
        })
    }
}

/// Why an index is not up to date.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexFault {
    /// The root cannot be opened.
    #[error(transparent)]
    Root(#[from] DriverFault),
    /// The scan did not finish.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

impl Advice for IndexFault {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Root(fault) => fault.advice(),
            Self::Scan(error) => error.advice(),
        }
    }
}

/// One directory of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedAt {
    /// The absolute path.
    pub directory: PathBuf,
    /// Whether it exists.
    pub exists: bool,
}

/// What one driver found.
#[derive(Debug, Default)]
pub struct DriverReport {
    /// The recordings, before [`tidy`](crate::storage::recording::tidy).
    pub recordings: Vec<Recording>,
    /// How many recordings were left out because of the deny list.
    pub denied: usize,
    /// The directories that were searched, at most a thousand.
    pub looked_at: Vec<LookedAt>,
    /// Why the result may be incomplete.
    pub fault: Option<DriverFault>,
}

impl DriverReport {
    /// Removes the recordings on the deny list.
    pub(crate) fn withhold(&mut self, root: &Path, query: &Query, rules: &InForce) {
        let found = self.recordings.len();
        let whole_call = rules.deny_call(query.call_id.as_str());
        self.recordings
            .retain(|found| !whole_call && !rules.deny(root, &found.path, found.resolved.as_ref()));
        self.denied = found - self.recordings.len();
    }
}

/// The driver of one storage root.
#[derive(Debug)]
pub struct FileDriver {
    root: RootId,
    pattern: Pattern,
    settings: Arc<StorageSettings>,
    index: Option<Index>,
    own: OwnDevice,
    closing: Arc<Closing>,
}

impl FileDriver {
    pub(crate) fn new(root: RootId, pattern: Pattern, settings: Arc<StorageSettings>) -> Self {
        let index = settings.index.as_ref().map(|directory| Index::new(directory, &pattern, &settings));
        Self { root, pattern, settings, index, own: OwnDevice::default(), closing: Arc::default() }
    }

    /// The number of this root.
    pub(crate) fn root(&self) -> RootId {
        self.root
    }

    /// The index of this root, if indexes are enabled.
    pub(crate) fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// Brings the index up to date. Blocks, for minutes if there are many recordings.
    ///
    /// # Errors
    /// [`IndexFault`].
    pub(crate) fn refresh(
        &self,
        index: &Index,
        cancelled: &Arc<AtomicBool>,
        pace: Pace,
    ) -> Result<Scanned, IndexFault> {
        let root = self.open_root()?;
        let is_recording = |name: &[u8]| self.settings.extensions.of(name).is_some();
        let names = Names { recording: &is_recording, skipped: &is_recording };
        let budget = Budget::until(cancelled);
        Ok(index.refresh(Walker { root: &root, budget: &budget, names, pace })?)
    }

    /// The pattern that the admin gave.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Searches for a call. Blocks.
    pub(crate) fn search(&self, query: &Query, budget: &Budget) -> DriverReport {
        let mut report = DriverReport::default();
        let ways = expand::expand(&self.pattern, query, &self.settings.zone, self.settings.look_back);
        if ways.is_empty() {
            return report;
        }
        let root = match self.open_root() {
            Ok(root) => root,
            Err(fault) => {
                let directory = self.pattern.root().to_owned();
                report.looked_at.push(LookedAt { directory, exists: false });
                report.fault = Some(fault);
                return report;
            }
        };
        let extensions = &self.settings.extensions;
        let wanted = |name: &[u8]| query.wants(name) && extensions.of(name).is_some();
        let skipped = |name: &[u8]| extensions.of(name).is_some();
        let names = Names { recording: &wanted, skipped: &skipped };
        let walker = Walker { root: &root, budget, names, pace: Pace::hurried() };
        let mut shortfall = Shortfall::default();
        match self.index.as_ref().and_then(|index| index.known(query, &ways)) {
            Some(known) => self.search_known(&known, walker, &ways, &mut report, &mut shortfall),
            None => self.search_directories(walker, &ways, &mut report, &mut shortfall),
        }
        report.fault = self.fault(shortfall);
        report
    }

    /// Searches without an index.
    fn search_directories(
        &self,
        walker: Walker<'_>,
        ways: &[Vec<Step>],
        report: &mut DriverReport,
        shortfall: &mut Shortfall,
    ) {
        let starts: Vec<PathBuf> = ways.iter().flat_map(|way| walker.descend(way, shortfall)).collect();
        let found = Found::below(walker, starts.clone());
        shortfall.add(found.shortfall);
        let looked = starts.iter().take(MAX_REPORTED);
        report.looked_at.extend(
            looked.map(|path| LookedAt { directory: self.whole(path), exists: found.starts.contains(path) }),
        );
        self.describe_all(walker.root, &found.hits, report, shortfall);
    }

    /// Searches with an index, and reads only the directories for which the index may be out of date.
    fn search_known(
        &self,
        known: &Known,
        walker: Walker<'_>,
        ways: &[Vec<Step>],
        report: &mut DriverReport,
        shortfall: &mut Shortfall,
    ) {
        let all_there = self.describe_all(walker.root, &known.hits, report, shortfall);
        if all_there && !known.may_be_newer {
            return;
        }
        let starts = ways.iter().flat_map(|way| walker.descend(way, shortfall)).collect();
        let looked = self.index.as_ref().and_then(|index| known.look(index, walker, starts));
        let Some(looked) = looked else {
            report.recordings.clear();
            return self.search_directories(walker, ways, report, shortfall);
        };
        shortfall.add(looked.shortfall);
        let unchanged = |found: &Recording| {
            found.path.parent().is_some_and(|directory| !looked.changed.contains(directory))
        };
        report.recordings.retain(unchanged);
        self.describe_all(walker.root, &looked.hits, report, shortfall);
    }

    /// Adds these recordings to the report. Returns whether all of them still exist.
    fn describe_all(
        &self,
        root: &Dir,
        hits: &[PathBuf],
        report: &mut DriverReport,
        shortfall: &mut Shortfall,
    ) -> bool {
        let now = SystemTime::now();
        let before = report.recordings.len();
        for path in hits {
            match self.describe(root, path, now) {
                Ok(found) => report.recordings.extend(found),
                Err(error) => shortfall.note(error),
            }
        }
        report.recordings.len() - before == hits.len()
    }

    fn fault(&self, shortfall: Shortfall) -> Option<DriverFault> {
        let root = self.pattern.root().to_owned();
        match shortfall.unreadable {
            Some(source) => Some(DriverFault::Unreadable { root, source }),
            None => shortfall.out_of_time.then_some(DriverFault::Slow(root)),
        }
    }

    /// The absolute path of a directory below the root.
    fn whole(&self, path: &Path) -> PathBuf {
        // Joining the empty path would add a slash.
        path.components().fold(self.pattern.root().to_owned(), |whole, part| whole.join(part))
    }

    /// Opens a recording by its path below the root. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]; if the root is not mounted, the recording is unreadable, not gone.
    pub fn open(&self, path: &Path) -> Result<OpenRecording, OpenError> {
        let root = self.open_root().map_err(|fault| OpenError::Unreadable(io::Error::other(fault)))?;
        self.own.learn(&root);
        let open = OpenRecording::open_slow(&root, path, &self.closing)?;
        let resolved = Resolved::of_open(&root, &**open.file);
        let resolved = resolved.or_else(|| Resolved::look_up(&root, self.pattern.root(), path));
        Ok(OpenRecording { resolved, ..open })
    }

    /// Opens a recording without waiting for a disk, if that is possible.
    pub(crate) fn open_cached(&self, path: &Path, extension: &str) -> Option<OpenRecording> {
        let wanted = CachedOpen { path, head: is_decided_by_its_head(extension) };
        cached_read::open(self.pattern.root(), &self.own, self.settings.sentinel.as_deref(), wanted)
    }

    /// Whether the root exists and can be opened and read. Blocks.
    pub(crate) fn probe(&self) -> Result<(), DriverFault> {
        let root = self.open_root()?;
        // Opening a directory needs no right to read it. A pattern with placeholders may pass through the root
        // without reading it; without placeholders, every search begins by reading the root.
        if self.pattern.components().is_empty() {
            let fault = |source| DriverFault::Root { root: self.pattern.root().to_owned(), source };
            root.entries().map(drop).map_err(fault)?;
        }
        Ok(())
    }

    /// The recordings with these names everywhere below the root, also outside the pattern, and why the result may be
    /// incomplete. Blocks, without a time limit.
    pub(crate) fn everywhere(
        &self,
        wanted: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> (Vec<PathBuf>, Option<DriverFault>) {
        let root = match self.open_root() {
            Ok(root) => root,
            Err(fault) => return (Vec::new(), Some(fault)),
        };
        let extensions = &self.settings.extensions;
        let recording = |name: &[u8]| extensions.of(name).is_some() && wanted(name);
        let skipped = |name: &[u8]| extensions.of(name).is_some();
        let budget = Budget::until(&Arc::default());
        let names = Names { recording: &recording, skipped: &skipped };
        let walker = Walker { root: &root, budget: &budget, names, pace: Pace::hurried() };
        let found = Found::below(walker, vec![PathBuf::new()]);
        (found.hits, self.fault(found.shortfall))
    }

    /// Whether a file below the root has sound. Blocks.
    pub(crate) fn has_sound(&self, path: &Path) -> bool {
        let described =
            self.open_root().ok().and_then(|root| self.describe(&root, path, SystemTime::now()).ok());
        described.flatten().is_some_and(|recording| !recording.empty)
    }

    /// Counts the recordings below the root. Blocks, for minutes if there are many.
    pub(crate) fn count(
        &self,
        census: &mut Census,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Figures, DriverFault> {
        let root = self.open_root()?;
        let budget = Budget::until(cancelled);
        census.take(&root, &self.settings.extensions, &budget).map_err(|source| {
            let root = self.pattern.root().to_owned();
            DriverFault::Unreadable { root, source }
        })
    }

    /// Finds the newest recording with a call id in its name, in the directories of a count. Blocks.
    ///
    /// # Errors
    /// [`DriverFault`] if the root cannot be opened.
    pub(crate) fn sample(&self, census: &Census, denied: &InForce) -> Result<Sampled, DriverFault> {
        let root = self.open_root()?;
        let offered = |path: &Path, call_id: &CallId| {
            let resolved = Resolved::look_up(&root, self.pattern.root(), path);
            !denied.deny_call(call_id.as_str()) && !denied.deny(self.pattern.root(), path, resolved.as_ref())
        };
        let among = Among {
            directories: &census.latest(sample::DIRECTORIES),
            pattern: &self.pattern,
            offered: &offered,
        };
        Ok(sample::take(&root, &among, &self.settings))
    }

    fn open_root(&self) -> Result<Dir, DriverFault> {
        let path = self.pattern.root();
        let fault = |source| DriverFault::Root { root: path.to_owned(), source };
        let root = Dir::open_ambient_dir(path, ambient_authority()).map_err(fault)?;
        match &self.settings.sentinel {
            Some(sentinel) if root.symlink_metadata(sentinel).is_err() => {
                Err(DriverFault::Sentinel(path.to_owned()))
            }
            Some(_) | None => Ok(root),
        }
    }

    /// Describes a file below the root. `None` if it is not a recording. Blocks.
    fn describe(&self, root: &Dir, path: &Path, now: SystemTime) -> io::Result<Option<Recording>> {
        let name = path.file_name().unwrap_or_default();
        let Some(extension) = self.settings.extensions.of(name.as_bytes()) else { return Ok(None) };
        let readable =
            is_decided_by_its_head(extension).then(|| OpenRecording::open(root, path).ok()).flatten();
        // Nothing else of an open file is asked by its path, because each path that is resolved costs system calls, and
        // on another machine time.
        let found = match &readable {
            Some(open) => FoundFile {
                size: open.size,
                modified: open.modified,
                identity: open.file.identity(),
                resolved: Resolved::of_open(root, &**open.file),
            },
            None => match FoundFile::by_path(root, path)? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        // A recording that can be listed but not read is still a recording, but nothing is known about its sound.
        let info = readable.map_or_else(ContentInfo::default, |open| open.content_info(extension));
        Ok(Some(Recording {
            root: self.root,
            path: path.to_owned(),
            size: found.size,
            modified: found.modified,
            extension: extension.to_owned(),
            duration: info.duration(),
            empty: found.size == 0 || info.is_empty(),
            growing: Recording::is_growing(found.modified, now),
            plain_wav: info.wav.is_some_and(|header| header.plain),
            decoded: info.decoded,
            identity: found.identity,
            resolved: found.resolved.or_else(|| Resolved::look_up(root, self.pattern.root(), path)),
        }))
    }
}

/// What is known of a file that a search found.
struct FoundFile {
    /// Bytes.
    size: u64,
    modified: SystemTime,
    /// Device and inode.
    identity: (u64, u64),
    /// Its path without links, if it is known already.
    resolved: Option<Resolved>,
}

impl FoundFile {
    /// Looks up a path below the root. `None` if it is not the path of a file. Blocks.
    fn by_path(root: &Dir, path: &Path) -> io::Result<Option<Self>> {
        let metadata = root.metadata(path)?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let modified = metadata.modified();
        Ok(Some(Self {
            size: metadata.len(),
            modified: modified.map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std),
            identity: (metadata.dev(), metadata.ino()),
            resolved: None,
        }))
    }
}

/// The recordings that a search without an index finds.
#[derive(Default)]
struct Found {
    /// Their paths below the root.
    hits: Vec<PathBuf>,
    /// The directories at which the walk started, if they exist.
    starts: HashSet<PathBuf>,
    /// Why the result may be incomplete.
    shortfall: Shortfall,
}

impl Found {
    /// Searches these directories and all directories below them.
    fn below(walker: Walker<'_>, starts: Vec<PathBuf>) -> Self {
        let (readers, walked) = walker.walk_in_parallel::<Self>(starts);
        let mut found = Self { shortfall: walked.shortfall, ..Self::default() };
        for reader in readers {
            found.hits.extend(reader.hits);
            found.starts.extend(reader.starts);
        }
        found
    }
}

impl Visitor for Found {
    type Reading = ();
    type Error = Infallible;

    fn enter(
        &mut self,
        directory: &OpenDirectory<'_>,
        depth: usize,
    ) -> Result<Entered<()>, VisitError<Infallible>> {
        if depth == 0 {
            self.starts.insert(directory.path.to_owned());
        }
        Ok(Entered::Read(()))
    }

    fn recording(
        &mut self,
        directory: &OpenDirectory<'_>,
        (): &mut (),
        name: OsString,
    ) -> Result<(), VisitError<Infallible>> {
        self.hits.push(directory.path.join(name));
        Ok(())
    }
}
