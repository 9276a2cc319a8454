//! Storage drivers: where recordings lie, and how they are found and opened.

pub(crate) mod blocking_pool;
pub(crate) mod cached_read;
pub mod census;
pub mod deny_list;
mod directory;
pub mod driver;
pub mod index;
mod kept_open;
pub mod linked_calls;
pub mod open;
pub mod recording;
pub mod root_id;
pub mod sample;
mod storage_root;
pub(crate) mod walk;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_agent_core::{call_id::CallIdRules, media::Extensions, pattern::Pattern, query::Query};
use futures_util::future::join_all;
use jiff::{SignedDuration, tz::TimeZone};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    auth::Scope,
    storage::{
        blocking_pool::BlockingPool,
        census::Figures,
        deny_list::InForce,
        driver::{DriverReport, FileDriver, LookedAt},
        kept_open::KeptOpen,
        open::{OpenError, OpenRecording},
        recording::{Recording, tidy},
        root_id::RootId,
        storage_root::{Counted, Indexed, StorageRoot},
    },
};

/// How long the drivers may search. It is shorter than the agent's 12 s and the relay's 15 s.
pub const SEARCH_DEADLINE: Duration = Duration::from_secs(10);
/// How far before and after the start of a call directories are searched, as QueueMetrics' `audio.lookBack`.
pub const LOOK_BACK: SignedDuration = SignedDuration::from_hours(4);
/// Searches at a time in one driver. More do not make a disk faster. It also limits the threads that a dead NAS
/// holds, whose calls never return.
const SEARCHES_PER_DRIVER: usize = 8;
/// How long a driver may take to open its root. A NAS that spins up its disks takes about ten seconds; one that is
/// gone never answers.
const PROBE_TIMEOUT: Duration = Duration::from_secs(12);
/// How long after its deadline a driver may still answer. It needs a moment to notice the deadline; after that, the
/// search goes on without it.
const DEADLINE_TOLERANCE: Duration = Duration::from_millis(250);

/// Which drivers a search asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchMode {
    /// One after the other, until one finds something.
    #[default]
    First,
    /// All of them, because the parts of one call may lie in several roots.
    All,
}

/// The settings of the storage drivers.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageSettings {
    /// The storage roots, in the order of the search.
    pub roots: Vec<Pattern>,
    /// The time zone in which the PBX names its directories.
    pub zone: TimeZone,
    /// How far before and after the start of a call to look.
    pub look_back: SignedDuration,
    /// The file name extensions of recordings.
    pub extensions: Extensions,
    /// The name of a file that is in every root while its storage is mounted.
    pub sentinel: Option<String>,
    /// Which drivers a search asks.
    pub mode: SearchMode,
    /// The rules for call ids.
    pub call_ids: CallIdRules,
    /// How long one search may take.
    pub deadline: Duration,
    /// The directory for the indexes, or `None` to work without an index.
    pub index: Option<PathBuf>,
}

impl StorageSettings {
    /// The default settings for the given roots, with UTC as the time zone.
    pub fn new(roots: Vec<Pattern>) -> Self {
        Self {
            roots,
            zone: TimeZone::UTC,
            look_back: LOOK_BACK,
            extensions: Extensions::default(),
            sentinel: None,
            mode: SearchMode::First,
            call_ids: CallIdRules::default(),
            deadline: SEARCH_DEADLINE,
            index: None,
        }
    }

    /// The pattern of a root.
    pub fn root(&self, root: RootId) -> Option<&Pattern> {
        root.of(&self.roots)
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Findings {
    /// The recordings, in the order in which the parts of the call were recorded.
    pub recordings: Vec<Recording>,
    /// Whether every driver that was asked could search all its directories.
    pub complete: bool,
    /// The directories that were searched.
    pub looked_at: Vec<LookedAt>,
    /// How many recordings were found but are on the deny list.
    pub denied: usize,
    /// How long the search took.
    pub elapsed: Duration,
}

/// The health of one driver, as of its last search or probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverHealth {
    /// The pattern as the admin wrote it.
    pub pattern: String,
    /// What is wrong, or `None`.
    pub degraded: Option<String>,
    /// How many recordings there are and how new they are, from the last count.
    pub figures: Option<Figures>,
}

/// All storage drivers of a site.
pub struct RecordingStorage {
    settings: Arc<StorageSettings>,
    drivers: Vec<StorageRoot>,
    kept_open: Arc<KeptOpen>,
}

impl RecordingStorage {
    /// Creates the drivers. Opens nothing yet, because the storage may be mounted later.
    pub fn new(settings: StorageSettings) -> Self {
        let settings = Arc::new(settings);
        let drivers = RootId::number(&settings.roots).map(|(root, pattern)| StorageRoot {
            driver: Arc::new(FileDriver::new(root, pattern.clone(), Arc::clone(&settings))),
            searches: Arc::new(Semaphore::new(SEARCHES_PER_DRIVER)),
            pool: BlockingPool::default(),
            probes: Arc::new(Semaphore::new(1)),
            degraded: Mutex::new(None),
            counted: Counted::default(),
            indexed: Indexed::default(),
        });
        Self { drivers: drivers.collect(), kept_open: Arc::default(), settings }
    }

    /// The settings of this vault.
    pub fn settings(&self) -> &StorageSettings {
        &self.settings
    }

    /// The directory of a root; an empty path if there is no such root.
    pub fn root(&self, root: RootId) -> PathBuf {
        self.settings.root(root).map(|pattern| pattern.root().to_owned()).unwrap_or_default()
    }

    /// Searches for a call, within the vault's deadline. Dropping the future ends the search.
    pub async fn find(&self, query: Query, scope: Scope) -> Findings {
        self.find_allowed(query, scope, &InForce::default()).await
    }

    /// Searches as [`RecordingStorage::find`] does, but leaves out the recordings on the deny list.
    pub async fn find_allowed(&self, query: Query, scope: Scope, rules: &InForce) -> Findings {
        let began = Instant::now();
        let deadline = began + self.settings.deadline;
        let query = Arc::new(query);
        let visible: Vec<&StorageRoot> = self.drivers.iter().filter(|slot| slot.visible(scope)).collect();
        let reports = match self.settings.mode {
            SearchMode::All => {
                join_all(visible.iter().map(|slot| slot.search(&query, deadline, rules))).await
            }
            SearchMode::First => first_match(&visible, &query, deadline, rules).await,
        };
        let mut findings = Findings { complete: true, ..Findings::default() };
        for report in reports {
            findings.complete &= report.fault.is_none();
            findings.denied += report.denied;
            findings.recordings.extend(report.recordings);
            findings.looked_at.extend(report.looked_at);
        }
        findings.recordings = tidy(findings.recordings);
        findings.elapsed = began.elapsed();
        findings
    }

    /// Opens a recording of a root. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, root: RootId, path: &std::path::Path) -> Result<OpenRecording, OpenError> {
        let slot = root.of(&self.drivers);
        let slot = slot.ok_or_else(|| OpenError::Gone(std::io::ErrorKind::NotFound.into()))?;
        slot.driver.open(path)
    }

    /// Opens a recording on the blocking pool and calls `then` with it there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn with_open<T: Send + 'static>(
        &self,
        root: RootId,
        path: PathBuf,
        then: impl FnOnce(OpenRecording) -> T + Send + 'static,
    ) -> Result<T, OpenError> {
        let gone = || OpenError::Gone(std::io::ErrorKind::NotFound.into());
        let slot = root.of(&self.drivers).ok_or_else(gone)?;
        if slot.pool.is_stalled() {
            return Err(OpenError::Stalled);
        }
        let driver = Arc::clone(&slot.driver);
        let job = slot.pool.run(move || driver.open(&path).map(then));
        let done = job.await.map_err(std::io::Error::other).flatten();
        done.unwrap_or_else(|error| Err(OpenError::Unreadable(error)))
    }

    /// The blocking pool of a root's storage.
    pub(crate) fn pool(&self, root: RootId) -> BlockingPool {
        root.of(&self.drivers).map(|slot| slot.pool.clone()).unwrap_or_default()
    }

    /// Opens a recording without waiting for a disk, if that is possible. To be tried before [`RecordingStorage::with_open`].
    pub(crate) fn open_cached(
        &self,
        root: RootId,
        path: &std::path::Path,
        extension: &str,
    ) -> Option<OpenRecording> {
        if let Some(open) = self.kept_open.find(root, path) {
            return Some(open);
        }
        let open = root.of(&self.drivers)?.driver.open_cached(path, extension)?;
        self.kept_open.keep(root, path, &open);
        Some(open)
    }

    /// Tries to open the root of every driver, each within a few seconds, so that an unmounted disk is known before
    /// the first search of it.
    pub async fn probe(&self) {
        join_all(self.drivers.iter().map(StorageRoot::probe)).await;
    }

    /// Counts the recordings of every driver, one driver after the other. Dropping the future ends the count.
    pub async fn count(&self) {
        for slot in &self.drivers {
            slot.count().await;
        }
    }

    /// Brings the indexes up to date, one after the other. Dropping the future ends that; what is indexed by then
    /// stays.
    pub async fn refresh_indexes(&self) {
        for slot in &self.drivers {
            slot.refresh_index().await;
        }
    }

    /// The health of every driver.
    pub fn health(&self) -> Vec<DriverHealth> {
        let health = |slot: &StorageRoot| DriverHealth {
            pattern: slot.driver.pattern().to_string(),
            degraded: slot.degraded.lock().clone(),
            figures: *slot.counted.figures.lock(),
        };
        self.drivers.iter().map(health).collect()
    }
}

impl fmt::Debug for RecordingStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("roots", &self.settings.roots).finish_non_exhaustive()
    }
}

/// Asks one driver after another. Every driver but the last gets half of the time that is left, so that a dead NAS
/// leaves time for the drivers after it.
async fn first_match(
    slots: &[&StorageRoot],
    query: &Arc<Query>,
    deadline: Instant,
    rules: &InForce,
) -> Vec<DriverReport> {
    let mut reports = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let until = if at + 1 == slots.len() { deadline } else { deadline - left / 2 };
        let report = slot.search(query, until, rules).await;
        let found = !report.recordings.is_empty();
        reports.push(report);
        if found {
            break;
        }
    }
    reports
}
