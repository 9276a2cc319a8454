//! Checks every storage root: can it be read, what does it hold, and is a call found by its id.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use audiovault_agent_core::{pattern::Pattern, query::Query};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::timeout;

use super::{
    report::{Row, Rows, State, Step, Verdict},
    storage::{self, Counted},
};
use crate::{
    auth::Scope,
    http::ServiceSettings,
    storage::{
        RecordingStorage, SEARCH_DEADLINE, StorageSettings,
        census::Census,
        deny_list::{DenySettings, InForce},
        driver::{DriverFault, DriverReport, FileDriver},
        open::OpenError,
        root_id::RootId,
        sample::{Sample, Sampled},
        walk::Budget,
    },
};

/// How long opening a root may take; see the vault's own limit.
const OPEN_TIMEOUT: Duration = Duration::from_secs(12);
/// How long recordings are counted: enough for ten million files on a local disk. On a slow one, the count so far is
/// used.
const COUNT_TIMEOUT: Duration = Duration::from_secs(60);
/// How much longer than its limit the count may take until it notices the timeout.
const COUNT_TOLERANCE: Duration = Duration::from_secs(1);

/// Checks all roots in parallel, with rows in their order. Returns the newest recording that can be found and read.
pub(super) async fn examine(service: &ServiceSettings, rows: &mut Rows<'_>) -> Option<Sample> {
    let roots: Vec<Root> = service.storage.roots.iter().map(|pattern| Root::new(service, pattern)).collect();
    let facts = join_all(roots.iter().map(Root::look)).await;
    let newest = facts.iter().filter_map(|facts| facts.counted.newest()).max();
    let mut best: Option<Sample> = None;
    for (root, facts) in roots.iter().zip(facts) {
        root.report(&facts, newest, rows);
        let found = root.search(facts, rows).await;
        if found.as_ref().is_some_and(|found| best.as_ref().is_none_or(|best| best.modified < found.modified))
        {
            best = found;
        }
    }
    best
}

/// One storage root.
struct Root {
    driver: Arc<FileDriver>,
    settings: StorageSettings,
    denied: InForce,
}

/// What was found in one root.
struct Facts {
    opened: Result<(), DriverFault>,
    open_took: Duration,
    counted: Counted,
    count_took: Duration,
    sampled: Sampled,
    today: Option<DriverReport>,
}

impl Root {
    fn new(service: &ServiceSettings, pattern: &Pattern) -> Self {
        let settings = StorageSettings { roots: vec![pattern.clone()], ..service.storage.clone() };
        let driver = FileDriver::new(RootId::FIRST, pattern.clone(), Arc::new(settings.clone()));
        let denied = service.deny.as_ref().map(DenySettings::in_force).unwrap_or_default();
        Self { driver: Arc::new(driver), settings, denied }
    }

    async fn look(&self) -> Facts {
        let begun = Instant::now();
        let opened = self.open().await;
        let open_took = begun.elapsed();
        let mut facts = Facts {
            opened,
            open_took,
            counted: Counted::Not,
            count_took: Duration::ZERO,
            sampled: Sampled::Nothing,
            today: None,
        };
        if facts.opened.is_err() {
            return facts;
        }
        let begun = Instant::now();
        (facts.counted, facts.sampled) = self.count().await;
        facts.count_took = begun.elapsed();
        let tenant = match &facts.sampled {
            Sampled::Found(sample) => sample.tenant.clone(),
            Sampled::Nameless(_) | Sampled::Nothing => None,
        };
        facts.today = self.today(tenant).await;
        facts
    }

    async fn open(&self) -> Result<(), DriverFault> {
        let driver = Arc::clone(&self.driver);
        let job = tokio::task::spawn_blocking(move || driver.probe());
        let slow = || DriverFault::Slow(self.driver.pattern().root().to_owned());
        timeout(OPEN_TIMEOUT, job).await.map_err(|_| slow())?.map_err(|_| slow())?
    }

    async fn count(&self) -> (Counted, Sampled) {
        let driver = Arc::clone(&self.driver);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let denied = self.denied.clone();
        let mut job = tokio::task::spawn_blocking(move || {
            let mut census = Census::default();
            let counted = match driver.count(&mut census, &stopped) {
                Ok(figures) => Counted::All(figures),
                Err(_) if stopped.load(Ordering::Relaxed) => Counted::Some(census.seen()),
                Err(fault) => Counted::Unreadable(census.seen(), fault),
            };
            (counted, driver.sample(&census, &denied).unwrap_or(Sampled::Nothing))
        });
        if let Ok(done) = timeout(COUNT_TIMEOUT, &mut job).await {
            return done.unwrap_or((Counted::Not, Sampled::Nothing));
        }
        stop.store(true, Ordering::Relaxed);
        let late = timeout(COUNT_TOLERANCE, job).await;
        late.ok().and_then(Result::ok).unwrap_or((Counted::Not, Sampled::Nothing))
    }

    /// Searches for a call that starts now and does not exist, which shows where the pattern leads today.
    async fn today(&self, tenant: Option<String>) -> Option<DriverReport> {
        let now = Timestamp::now();
        let call = self.settings.call_ids.parse(&format!("{}.4000000000", now.as_second())).ok()?;
        let query = Query { start: Some(now), tenant, ..Query::new(call) };
        let driver = Arc::clone(&self.driver);
        let budget = Budget { deadline: Some(Instant::now() + SEARCH_DEADLINE), cancelled: Arc::default() };
        let job = tokio::task::spawn_blocking(move || driver.search(&query, &budget));
        timeout(SEARCH_DEADLINE + COUNT_TOLERANCE, job).await.ok()?.ok()
    }

    fn report(&self, facts: &Facts, newest: Option<SystemTime>, rows: &mut Rows<'_>) {
        let now = SystemTime::now();
        let mut row = |step, took, verdict| {
            let begun = Instant::now().checked_sub(took).unwrap_or_else(Instant::now);
            rows.push(Row::new(step, begun, verdict).about(self.driver.pattern().to_string()));
        };
        let path = storage::path(
            self.driver.pattern(),
            &facts.opened,
            facts.today.as_ref(),
            facts.counted.newest(),
            now,
        );
        row(Step::Path, facts.open_took, path);
        if let Some(sentinel) = &self.settings.sentinel {
            row(Step::Sentinel, Duration::ZERO, storage::sentinel(sentinel, &facts.opened));
        }
        row(Step::Recordings, facts.count_took, storage::recordings(&facts.counted, newest, now));
    }

    /// The sample search: is the newest recording found by its id, and can it be read.
    async fn search(&self, facts: Facts, rows: &mut Rows<'_>) -> Option<Sample> {
        let begun = Instant::now();
        let verdict = match facts.sampled {
            Sampled::Found(sample) => {
                let verdict = self.find(&sample).await;
                let well = verdict.state == State::Pass;
                rows.push(
                    Row::new(Step::SampleSearch, begun, verdict).about(self.driver.pattern().to_string()),
                );
                return well.then_some(*sample);
            }
            Sampled::Nameless(name) => storage::nameless(&name),
            Sampled::Nothing if facts.opened.is_err() => Verdict::after(Step::Path),
            Sampled::Nothing => Verdict::skipped("there is no recording to search for"),
        };
        rows.push(Row::new(Step::SampleSearch, begun, verdict).about(self.driver.pattern().to_string()));
        None
    }

    async fn find(&self, sample: &Sample) -> Verdict {
        if storage::lacks_tenant(self.driver.pattern(), sample) {
            return Verdict::skipped(
                "the directory of the newest recording does not name a tenant that can search for it",
            );
        }
        let query = Query { tenant: sample.tenant.clone(), ..Query::new(sample.call_id.clone()) };
        let findings = RecordingStorage::new(self.settings.clone()).find(query, Scope::Everything).await;
        if findings.recordings.is_empty() {
            return storage::unfound(sample, &findings);
        }
        match self.read(&sample.path).await {
            Ok(()) => storage::found(sample, &findings),
            Err(error) => storage::locked(sample, &error),
        }
    }

    /// Reads the first byte of a recording.
    async fn read(&self, path: &Path) -> Result<(), OpenError> {
        let driver = Arc::clone(&self.driver);
        let path = path.to_owned();
        let job = tokio::task::spawn_blocking(move || {
            let open = driver.open(&path)?;
            let first = std::io::Read::take(&**open.file, 1);
            std::io::copy(&mut { first }, &mut std::io::sink()).map_err(OpenError::Unreadable).map(drop)
        });
        let late = || OpenError::Unreadable(std::io::ErrorKind::TimedOut.into());
        timeout(OPEN_TIMEOUT, job).await.map_err(|_| late())?.map_err(|_| late())?
    }
}
