//! One storage driver with its threads and limits: searches, probes, counts and index updates, and the log of their
//! results.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use audiovault_agent_core::query::Query;
use audiovault_common::{advice::without_causes, error_chain::causes_in_one_line};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{DEADLINE_TOLERANCE, PROBE_TIMEOUT};
use crate::{
    auth::Scope,
    storage::{
        blocking_pool::BlockingPool,
        census::{Census, Figures},
        deny_list::InForce,
        driver::{DriverFault, DriverReport, FileDriver, IndexFault},
        index::Scanned,
        walk::{Budget, Pace},
    },
};

/// A storage driver and what is known about it between searches.
pub(super) struct StorageRoot {
    pub(super) driver: Arc<FileDriver>,
    pub(super) searches: Arc<Semaphore>,
    /// One at a time: while one does not return, another would not return either.
    pub(super) probes: Arc<Semaphore>,
    pub(super) pool: BlockingPool,
    pub(super) degraded: Mutex<Option<String>>,
    pub(super) counted: Counted,
    pub(super) indexed: Indexed,
}

/// The result of the last count, and what the next count needs.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) census: Arc<Mutex<Census>>,
    pub(super) figures: Mutex<Option<Figures>>,
}

/// The state of a driver's index when it was last logged.
#[derive(Debug, Default)]
pub(super) struct Indexed(Mutex<LastReport>);

impl StorageRoot {
    pub(super) fn visible(&self, scope: Scope) -> bool {
        scope == Scope::Everything || self.driver.pattern().separates_tenants()
    }

    pub(super) async fn search(
        &self,
        query: &Arc<Query>,
        deadline: Instant,
        rules: &InForce,
    ) -> DriverReport {
        if self.pool.is_stalled() {
            let fault = Some(self.stalled());
            self.update_health(fault.as_ref());
            return DriverReport { fault, ..DriverReport::default() };
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let _ends_with_the_asker = CancelOnDrop(Arc::clone(&cancelled));
        let budget = Budget { deadline: Some(deadline), cancelled };
        let (driver, asked, searches) =
            (Arc::clone(&self.driver), Arc::clone(query), Arc::clone(&self.searches));
        let work = async move {
            let permit = searches.acquire_owned().await.ok()?;
            let job = tokio::task::spawn_blocking(move || {
                let report = driver.search(&asked, &budget);
                drop(permit);
                report
            });
            job.await.ok()
        };
        let report =
            tokio::time::timeout_at((deadline + DEADLINE_TOLERANCE).into(), work).await.ok().flatten();
        let mut report = report.unwrap_or_else(|| DriverReport {
            fault: Some(DriverFault::Slow(PathBuf::from(self.driver.pattern().root()))),
            ..DriverReport::default()
        });
        self.update_health(report.fault.as_ref());
        report.withhold(self.driver.pattern().root(), query, rules);
        report
    }

    /// Tries to open the root. If that takes too long, the agent sends no more requests to the storage until it
    /// returns.
    pub(super) async fn probe(&self) {
        let driver = Arc::clone(&self.driver);
        let pool = self.pool.clone();
        let before = Arc::clone(&self.probes).acquire_owned();
        let work = async move {
            let permit = before.await.ok()?;
            let probe = tokio::task::spawn_blocking(move || {
                let probed = driver.probe();
                pool.set_stalled(false);
                drop(permit);
                probed
            });
            probe.await.ok()
        };
        let fault = match tokio::time::timeout(PROBE_TIMEOUT, work).await.ok().flatten() {
            Some(probed) => probed.err(),
            None => {
                self.pool.set_stalled(true);
                Some(self.stalled())
            }
        };
        self.update_health(fault.as_ref());
    }

    fn stalled(&self) -> DriverFault {
        DriverFault::Stalled(PathBuf::from(self.driver.pattern().root()))
    }

    /// Counts the recordings. If that fails, the last figures stay; searches and probes report why the storage cannot
    /// be read.
    pub(super) async fn count(&self) {
        if self.pool.is_stalled() {
            return;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let _ends_with_the_asker = CancelOnDrop(Arc::clone(&cancelled));
        let driver = Arc::clone(&self.driver);
        let census = Arc::clone(&self.counted.census);
        let work = tokio::task::spawn_blocking(move || {
            // An earlier count may still be waiting for the storage.
            let mut census = census.try_lock()?;
            Some(driver.count(&mut census, &cancelled))
        });
        let Some(counted) = self.pool.unless_stalled(work).await else { return };
        match counted {
            Ok(None) => {}
            Ok(Some(Ok(figures))) => {
                tracing::debug!(pattern = %self.driver.pattern(), recordings = figures.recordings, "recordings were counted");
                *self.counted.figures.lock() = Some(figures);
            }
            Ok(Some(Err(fault))) => {
                tracing::debug!(
                    pattern = %self.driver.pattern(),
                    "recordings were not counted: {}",
                    without_causes(&fault)
                );
            }
            Err(error) => tracing::error!(
                %error,
                code = "storage.count_failed",
                "internal error: counting recordings failed"
            ),
        }
    }

    pub(super) async fn refresh_index(&self) {
        if self.driver.index().is_none() || self.pool.is_stalled() {
            return;
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let _ends_with_the_asker = CancelOnDrop(Arc::clone(&cancelled));
        let driver = Arc::clone(&self.driver);
        let began = Instant::now();
        let work = tokio::task::spawn_blocking(move || {
            driver.index().map(|index| driver.refresh(index, &cancelled, Pace::default()))
        });
        let Some(refreshed) = self.pool.unless_stalled(work).await else { return };
        match refreshed {
            Ok(Some(refreshed)) => self.indexed.report(&self.driver, &refreshed, began.elapsed()),
            Ok(None) => {}
            Err(error) => tracing::error!(
                %error,
                code = "index.update_failed",
                "internal error: updating the index failed"
            ),
        }
    }

    /// Stores the health of the driver, and logs each change once.
    fn update_health(&self, fault: Option<&DriverFault>) {
        let now = fault.map(without_causes);
        let mut before = self.degraded.lock();
        if *before != now {
            let pattern = self.driver.pattern();
            match fault {
                Some(fault) => {
                    let cause = causes_in_one_line(fault);
                    tracing::warn!(
                        %pattern,
                        cause,
                        code = "storage.degraded",
                        "storage is degraded: {}",
                        without_causes(fault)
                    );
                }
                None => tracing::info!(%pattern, code = "storage.recovered", "storage works again"),
            }
            *before = now;
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
enum LastReport {
    #[default]
    Nothing,
    Finished,
    Failed(String),
}

impl Indexed {
    /// Logs the result of a scan; a result that is not new is logged at debug level, or not at all if it is a
    /// failure.
    fn report(&self, driver: &FileDriver, result: &Result<Scanned, IndexFault>, took: Duration) {
        let mut last = self.0.lock();
        let pattern = driver.pattern();
        let now = match result {
            Ok(_) => LastReport::Finished,
            // Searches and probes report that the root cannot be opened.
            Err(IndexFault::Root(_)) => return,
            Err(fault) => LastReport::Failed(without_causes(fault)),
        };
        match result {
            Ok(Scanned { directories, read, added, removed }) if *last != now => {
                tracing::info!(
                    %pattern,
                    directories,
                    read,
                    added,
                    removed,
                    ?took,
                    code = "index.up_to_date",
                    "the index is up to date"
                );
            }
            Ok(Scanned { directories, read, added, removed }) => {
                tracing::debug!(%pattern, directories, read, added, removed, ?took, "the index is up to date");
            }
            Err(fault) if *last != now => {
                let cause = causes_in_one_line(fault);
                tracing::warn!(
                    %pattern,
                    cause,
                    code = "index.behind",
                    "the index is not up to date; searches read directories: {}",
                    without_causes(fault)
                );
            }
            Err(_) => {}
        }
        *last = now;
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
