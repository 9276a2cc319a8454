//! The index: a list of all recordings, so that a search among millions reads no directory.
//!
//! The index is never trusted if it may be wrong. Every recording in it is looked up on disk before it is returned.
//! If a call may be newer than the last scan, or a recording is not where the index says, the search reads the
//! directories that have changed since the scan. If the index cannot answer, the search runs without it.

mod known;
mod scan;
mod store;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, OnceLock, Weak, atomic::AtomicBool},
    time::Duration,
};

use cap_std::fs::Dir;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use self::{scan::Scan, store::Store, watch::Watch};
use crate::storage::{
    StorageSettings,
    directory::{Names, Shortfall},
    expand,
    pace::Pace,
    pattern::Pattern,
    tokens::Rules,
    walk::{Budget, Walk},
};

pub(crate) use self::known::Known;
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

    /// Brings the index up to date, or builds it again if necessary. Blocks, for minutes if there are many
    /// recordings.
    ///
    /// # Errors
    /// [`ScanError`]; searches go on without what was not scanned.
    pub(crate) fn refresh(
        &self,
        root: &Dir,
        names: Names<'_>,
        cancelled: &Arc<AtomicBool>,
        pace: Pace,
    ) -> Result<Scanned, ScanError> {
        let store = self.opened()?;
        let done = self.scan((root, &store), names, cancelled, pace);
        if let Err(ScanError::Store(StoreError::Failed(_) | StoreError::Garbled)) = &done {
            // The next open checks the file, and builds it again if it is damaged.
            self.close();
        }
        done
    }

    fn scan(
        &self,
        (root, store): (&Dir, &Store),
        names: Names<'_>,
        cancelled: &Arc<AtomicBool>,
        pace: Pace,
    ) -> Result<Scanned, ScanError> {
        // No deadline: the scan ends if `cancelled` is set.
        let budget = Budget { deadline: None, cancelled: Arc::clone(cancelled) };
        let walk = Walk { root, budget: &budget, names };
        let mut shortfall = Shortfall::default();
        let bases = walk.descend(&expand::anywhere(&self.pattern), &mut shortfall);
        let watched = self.watch.get_or_init(Watch::new).as_ref().map(|watch| (watch, self.pattern.root()));
        Scan::new((walk, store), watched, self.rules, pace).run(bases, shortfall)
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
