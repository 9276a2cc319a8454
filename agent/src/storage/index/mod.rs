//! The index: a list of all recordings, so that a search among millions reads no directory.
//!
//! The index is never trusted if it may be wrong. Every recording in it is looked up on disk before it is returned.
//! If a call may be newer than the last scan, or a recording is not where the index says, the search reads the
//! directories that have changed since the scan. If the index cannot answer, the search runs without it.

mod scan;
mod store;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsString,
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, OnceLock, Weak},
    time::Duration,
};

use audiovault_agent_core::{
    call_id::CallId,
    expand::{self, Step, leads_to},
    pattern::Pattern,
    query::Query,
    tokens::{self, Rules},
};
use audiovault_common::advice::without_causes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use self::{
    scan::{Scan, nanoseconds},
    store::{DirectoryRow, Reading, Store, guarded},
    watch::Watch,
};
use crate::storage::{
    StorageSettings,
    directory::{OpenDirectory, is_debris},
    walk::{Entered, Shortfall, VisitError, Visitor, Walker},
};

pub use self::{
    scan::{ScanError, Scanned},
    store::StoreError,
};

/// The index files that are open in this process. A reload has two vaults for a moment, but a file can be opened only
/// once.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Store>>>> = LazyLock::new(Mutex::default);

/// The index of one root.
pub struct Index {
    file: PathBuf,
    about: String,
    pattern: Pattern,
    rules: Rules,
    look_ahead: Duration,
    store: Mutex<Option<Arc<Store>>>,
    /// Created by the first scan, if the kernel allows it.
    watch: OnceLock<Option<Watch>>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Index {
    /// The index of a root, in its own file in `directory`. Nothing is opened yet.
    pub(crate) fn new(directory: &Path, pattern: &Pattern, settings: &StorageSettings) -> Self {
        let name = Sha256::digest(pattern.to_string());
        let name =
            data_encoding::HEXLOWER.encode(name.first_chunk::<8>().map_or(&[], |first| first.as_slice()));
        Self {
            file: directory.join(format!("{name}.redb")),
            about: format!("{pattern} {:?} {:?}", settings.extensions, settings.call_ids),
            pattern: pattern.clone(),
            rules: Rules::for_ids(&settings.call_ids),
            look_ahead: settings.look_back.unsigned_abs(),
            store: Mutex::default(),
            watch: OnceLock::new(),
        }
    }

    /// The path of the index file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What the index knows about a call in the directories of these ways. `None` if the index cannot answer: it is
    /// not finished, or it cannot answer this query. Blocks.
    pub(crate) fn known(&self, query: &Query, ways: &[Vec<Step>]) -> Option<Known> {
        if ways.iter().flatten().any(leads_to_debris) {
            return None;
        }
        let store = self.store()?;
        let tokens = self.tokens(query)?;
        let found = guarded(|| {
            let reading = store.reading()?;
            let Some(scanned) = reading.scanned()? else { return Ok(None) };
            let mut hits = Vec::new();
            for token in &tokens {
                hits.extend(reading.filed(token, &|name| query.wants(name))?);
            }
            Ok(Some((scanned, hits, reading)))
        });
        let (scanned, hits, reading) = match found {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!(
                    error = without_causes(&error),
                    file = %self.file.display(),
                    code = "index.unreadable",
                    "the index cannot be read; searching without it"
                );
                self.close();
                return None;
            }
        };
        let latest =
            query.began().map(|began| began.as_nanosecond() + self.look_ahead.as_nanos().cast_signed());
        let may_be_newer = latest.is_none_or(|latest| latest >= scanned);
        // One name may be stored under several of these tokens.
        let hits: BTreeSet<PathBuf> =
            hits.into_iter().filter(|path| ways.iter().any(|way| leads_to(way, path))).collect();
        Some(Known { hits: hits.into_iter().collect(), may_be_newer, reading })
    }

    /// Brings the index up to date, or builds it again if necessary. Blocks, for minutes if there are many
    /// recordings.
    ///
    /// # Errors
    /// [`ScanError`]; searches go on without what was not scanned.
    pub(crate) fn refresh(&self, walker: Walker<'_>) -> Result<Scanned, ScanError> {
        let store = self.opened()?;
        let done = self.scan(walker, &store);
        if let Err(ScanError::Store(StoreError::Failed(_) | StoreError::Garbled)) = &done {
            // The next open checks the file, and builds it again if it is damaged.
            self.close();
        }
        done
    }

    fn scan(&self, walker: Walker<'_>, store: &Store) -> Result<Scanned, ScanError> {
        let mut shortfall = Shortfall::default();
        let bases = walker.descend(&expand::anywhere(&self.pattern), &mut shortfall);
        let watched = self.watch.get_or_init(Watch::new).as_ref().map(|watch| (watch, self.pattern.root()));
        Scan::new(walker, store, watched, self.rules).run(bases, shortfall)
    }

    /// Index keys for the query, or `None` if any term cannot be indexed.
    fn tokens(&self, query: &Query) -> Option<Vec<Vec<u8>>> {
        let ids = [&query.call_id].into_iter().chain(&query.linked.ids).map(CallId::needle);
        let files = query.linked.files.iter().map(String::as_bytes);
        ids.chain(files).map(|text| tokens::key(text, self.rules)).collect()
    }

    fn watch(&self) -> Option<&Watch> {
        self.watch.get().and_then(Option::as_ref)
    }

    /// The store, if it is open.
    fn store(&self) -> Option<Arc<Store>> {
        self.store.lock().clone()
    }

    fn opened(&self) -> Result<Arc<Store>, StoreError> {
        if let Some(store) = self.store() {
            return Ok(store);
        }
        let mut open = OPEN.lock();
        let key = std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        let store = match open.get(&key).and_then(Weak::upgrade) {
            Some(store) => store,
            None => Arc::new(Store::open(&self.file, &self.about)?),
        };
        open.insert(key, Arc::downgrade(&store));
        *self.store.lock() = Some(Arc::clone(&store));
        Ok(store)
    }

    fn close(&self) {
        *self.store.lock() = None;
    }
}

/// The answer of an index.
pub(crate) struct Known {
    /// The paths of the call's recordings below the root, at the last scan.
    pub(crate) hits: Vec<PathBuf>,
    /// Whether recordings may have been added since the scan.
    pub(crate) may_be_newer: bool,
    /// The state of the index from which this was read. Later changes of the index do not affect it.
    reading: Reading,
}

impl Known {
    /// Reads the directories at the ends of these ways, and below, that have changed since they were scanned. `None`
    /// if the index cannot be read any more. Blocks.
    pub(crate) fn look(&self, index: &Index, walker: Walker<'_>, starts: Vec<PathBuf>) -> Option<Looked> {
        let looked = Looked::default();
        let mut look = Look { walker, watch: index.watch(), reading: &self.reading, looked };
        let walked = guarded(|| walker.walk(starts, &mut look)).ok()?;
        Some(Looked { shortfall: walked.shortfall, ..look.looked })
    }
}

/// The result of reading the directories that have changed.
#[derive(Default)]
pub(crate) struct Looked {
    /// The directories that were read; what the index says about them no longer counts.
    pub(crate) changed: HashSet<PathBuf>,
    /// The paths of the recordings that were found in them.
    pub(crate) hits: Vec<PathBuf>,
    /// Why the result may be incomplete.
    pub(crate) shortfall: Shortfall,
}

struct Look<'a> {
    walker: Walker<'a>,
    watch: Option<&'a Watch>,
    reading: &'a Reading,
    looked: Looked,
}

impl Visitor for Look<'_> {
    type Reading = ();
    type Error = StoreError;

    /// Reads the directory only if it has changed.
    fn enter(
        &mut self,
        directory: &OpenDirectory<'_>,
        _depth: usize,
    ) -> Result<Entered<()>, VisitError<StoreError>> {
        let known = self.reading.directory(directory.path)?;
        let modified = nanoseconds(directory.modified()?);
        if let Some(known) = known {
            if known.settled && known.modified == modified {
                return Ok(Entered::Known(names_of(known.below)));
            }
            if let Some(below) = self.take_changes(directory, known) {
                return Ok(Entered::Known(below));
            }
        }
        self.looked.changed.insert(directory.path.to_owned());
        Ok(Entered::Read(()))
    }

    fn recording(
        &mut self,
        directory: &OpenDirectory<'_>,
        (): &mut (),
        name: OsString,
    ) -> Result<(), VisitError<StoreError>> {
        self.looked.hits.push(directory.path.join(name));
        Ok(())
    }
}

impl Look<'_> {
    /// The subdirectories of a watched directory, if the reported changes are enough and it need not be read.
    fn take_changes(&mut self, directory: &OpenDirectory<'_>, known: DirectoryRow) -> Option<Vec<OsString>> {
        let path = directory.path;
        let news = self.watch?.news(path, &directory.handle)?;
        if news.has_link(self.walker, path) {
            return None;
        }
        let names = self.walker.names;
        let wanted = news.appeared.iter().filter(|name| (names.recording)(name.as_bytes()));
        self.looked.hits.extend(wanted.map(|name| path.join(name)));
        let came = news.directories.into_iter().filter(|name| names.lead_on(name.as_bytes()));
        Some(names_of(known.below).into_iter().chain(came).collect())
    }
}

/// Names as they are stored, as names of files.
fn names_of(stored: Vec<Vec<u8>>) -> Vec<OsString> {
    stored.into_iter().map(OsString::from_vec).collect()
}

/// Whether a step leads to a directory that no scan enters.
fn leads_to_debris(step: &Step) -> bool {
    match step {
        Step::Exact(name) => is_debris(name.as_bytes()),
        Step::Like(_) => false,
    }
}
