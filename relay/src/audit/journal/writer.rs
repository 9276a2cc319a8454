//! The task that writes the journal's records to the database.
//!
//! After a calm time, records are written at once. A busy relay with a spool *keeps* its events: they go to the
//! spool, and the next [`STORE_INTERVAL`] *stores* them in one transaction. Meanwhile further events are kept. A
//! spool that has records which are not in memory has a *backlog*: of an earlier run, or because the database
//! failed. Then records are read from the spool and written in batches, before those in memory.

use std::{
    collections::HashMap,
    future::pending,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use tokio::{
    task::{JoinError, JoinHandle},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{Journal, OpenTunnels, Spool, Waiting, repair::repair, spool::Position};
use crate::{
    model::audit::Outcome,
    store::{Record, Store, StoreError, Traffic, TrafficShare, hour},
};

/// How long records are collected before they are written. A relay that is killed may lose the records of this
/// time.
const GATHER: Duration = Duration::from_millis(10);
/// The time between two transactions of a busy relay with a spool. Pages show a search or the end of a delivery after
/// this time at most. Ten thousand requests a second are five thousand rows, which share the pages that they change.
const STORE_INTERVAL: Duration = Duration::from_millis(500);
/// Most events in one of these transactions, and most that are kept for the next one, at about 500 bytes each. The
/// write lock is held for less than a tenth of a second, where other writers wait five seconds for it.
const MAX_KEPT: usize = 10_000;
/// How long events go to the database at once after the spool could not be written.
const WITHOUT_SPOOL: Duration = Duration::from_secs(1);
/// The time between two looks at the progress of deliveries.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often traffic is counted and a sign of life is written, in ticks of [`WRITE_INTERVAL`].
const SLOW_TICKS: u64 = 10;
/// How often the tunnels in the database are compared with the tunnels that are open here, in ticks of
/// [`WRITE_INTERVAL`].
const REPAIR_TICKS: u64 = 30;
/// Records per transaction: the write lock is held for about ten milliseconds.
const BATCH: usize = 500;
/// The longest time for the last records when the relay stops.
const LAST_WRITES: Duration = Duration::from_secs(3);

pub(super) struct Writer {
    journal: Journal,
    store: Store,
    tunnels: Arc<dyn OpenTunnels>,
    /// Records that were taken out of the queue, or read from the spool, and are not written yet.
    batch: Vec<Record>,
    /// How many records of the batch were read from the spool.
    from_spool: usize,
    /// The place where records wait for the database. `None` while a blocking thread uses it.
    spool: Option<Spool>,
    /// Events that are also in the spool, and wait for the next transaction.
    kept: Vec<Record>,
    /// The transaction under way.
    storing: Option<Storing>,
    /// When kept events are stored.
    next_store: Instant,
    /// Until when the spool is not used, because it could not be written.
    no_spool_until: Instant,
    counted: HashMap<SiteId, Traffic>,
}

/// A transaction with kept events.
#[derive(Debug)]
struct Storing {
    task: JoinHandle<Result<(), StoreError>>,
    /// The end of its events in the spool.
    end: Position,
}

/// The result of a transaction, or why its task did not end by itself.
type Stored = Result<Result<(), StoreError>, JoinError>;

impl Storing {
    /// Completes when the transaction under way has ended. Without one, it never completes. May be dropped and called
    /// again.
    async fn ended(storing: &mut Option<Self>) -> Stored {
        match storing {
            Some(storing) => (&mut storing.task).await,
            None => pending().await,
        }
    }
}

impl Writer {
    pub(super) fn new(
        journal: Journal,
        store: Store,
        tunnels: Arc<dyn OpenTunnels>,
        spool: Option<Spool>,
    ) -> Self {
        let batch = Vec::new();
        let counted = HashMap::new();
        let now = Instant::now();
        Self {
            journal,
            store,
            tunnels,
            batch,
            from_spool: 0,
            spool,
            kept: Vec::new(),
            storing: None,
            next_store: now,
            no_spool_until: now,
            counted,
        }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = interval(WRITE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticked = 0;
        loop {
            // While the database fails, it is tried once a second, not with every record.
            let failing = self.journal.lock().failing.is_some();
            tokio::select! {
                _ = ticks.tick() => {
                    self.follow_deliveries(Follow::All);
                    self.journal.count_unauthenticated(false);
                    // What passes in the meantime is counted when the database is back.
                    if ticked % SLOW_TICKS == 0 && !failing {
                        self.count_traffic();
                        self.close_orphans().await;
                    }
                    if ticked % REPAIR_TICKS == REPAIR_TICKS - 1 && !failing {
                        self.repair().await;
                    }
                    ticked += 1;
                }
                () = self.journal.shared.news.notified(), if !failing => tokio::time::sleep(GATHER).await,
                stored = Storing::ended(&mut self.storing) => self.stored(stored).await,
                () = sleep_until(self.next_store), if !self.kept.is_empty() && self.storing.is_none() => {}
            }
            if self.journal.lock().closed {
                break;
            }
            self.proceed().await;
        }
        self.follow_deliveries(Follow::All);
        self.journal.count_unauthenticated(true);
        self.count_traffic();
        let _ = timeout(LAST_WRITES, async {
            if self.storing.is_some() {
                let stored = Storing::ended(&mut self.storing).await;
                self.stored(stored).await;
            }
            // They are written from the spool.
            self.kept.clear();
            self.write_all().await;
            self.store.stop_run(self.journal.run()).await
        })
        .await;
        self.spill().await;
    }

    /// Writes what waits, keeps it in the spool, or stores what is kept.
    async fn proceed(&mut self) {
        let now = Instant::now();
        if self.storing.is_some() {
            if now >= self.no_spool_until {
                self.keep().await;
            }
            return;
        }
        let is_due = now >= self.next_store;
        let at_once = self.spool.is_none() || self.has_backlog() || now < self.no_spool_until || is_due;
        if self.kept.is_empty() && at_once {
            self.next_store = now + STORE_INTERVAL;
            return self.write_all().await;
        }
        if is_due {
            self.follow_deliveries(Follow::Ends);
        }
        let is_kept = self.keep().await;
        let is_urgent = self.journal.lock().is_urgent();
        if is_due || !is_kept || is_urgent || self.kept.len() >= MAX_KEPT {
            self.begin_to_store();
        }
        if self.storing.is_none() && (!is_kept || is_urgent) {
            self.write_all().await;
        }
    }

    /// Puts the events that wait into the spool. Returns false if the spool does not take them; then they wait in memory.
    async fn keep(&mut self) -> bool {
        let events = self.journal.lock().take_events();
        if events.is_empty() {
            return true;
        }
        let had_backlog = self.has_backlog();
        let kept = self.append(events, |_| Ok(())).await;
        self.journal.lock().in_hand = 0;
        if had_backlog || self.kept.len() + kept.spooled.len() > 2 * MAX_KEPT {
            // More than fits into memory: the spool has a backlog from here on.
            self.kept.clear();
        } else {
            self.kept.extend(kept.spooled);
        }
        let is_kept = kept.left.is_empty();
        if !is_kept {
            self.no_spool_until = Instant::now() + WITHOUT_SPOOL;
            self.journal.put_back(kept.left);
        }
        is_kept
    }

    /// Begins a transaction with all kept events.
    fn begin_to_store(&mut self) {
        self.next_store = Instant::now() + STORE_INTERVAL;
        let Some(spool) = self.spool.as_ref().filter(|_| !self.kept.is_empty()) else { return };
        let records = joined(std::mem::take(&mut self.kept));
        let store = self.store.clone();
        let task = tokio::spawn(async move { store.write(&records).await });
        self.storing = Some(Storing { task, end: spool.end() });
    }

    /// Removes stored events from the spool. If they could not be stored, the spool has them as a backlog.
    async fn stored(&mut self, stored: Stored) {
        let Some(Storing { end, .. }) = self.storing.take() else { return };
        match stored {
            Ok(Ok(())) => {
                // An error is in the log, and the events would only be delivered again.
                let _ = self.with_spool(move |spool| spool.delivered_until(end)).await;
                self.succeeded();
            }
            Ok(Err(error)) => {
                self.kept.clear();
                if !error.is_about_the_record() {
                    self.failed(&error);
                }
            }
            // It panicked, so the database may lack the events.
            Err(_) => self.kept.clear(),
        }
    }

    /// True if the spool has records that are neither kept in memory nor in the transaction under way.
    fn has_backlog(&self) -> bool {
        let storing = self.storing.as_ref().map_or(0, |storing| storing.end.records);
        let in_memory = storing + self.kept.len() as u64;
        self.spool.as_ref().is_some_and(|spool| spool.records() > in_memory)
    }

    /// Ends what dead relays have left open. A relay may die at any time; one of them may be this one's
    /// predecessor.
    async fn close_orphans(&self) {
        if let Err(error) = self.store.close_orphans(self.journal.run()).await {
            self.failed(&error);
        }
    }

    async fn repair(&self) {
        if let Err(error) = repair(&self.journal, &self.store, &*self.tunnels).await {
            self.failed(&error);
        }
    }

    /// Queues the progress of the deliveries under way. While nothing can be written, only their ends are worth
    /// a place in the queue.
    fn follow_deliveries(&mut self, what: Follow) {
        let mut queue = self.journal.lock();
        let all = what == Follow::All && queue.failing.is_none();
        let mut live = std::mem::take(&mut queue.live);
        live.retain(|delivery| {
            let progress = delivery.progress();
            let ended = progress.outcome != Outcome::Open;
            if ended || (all && delivery.is_news(progress.bytes)) {
                queue.waiting.push_back(Waiting::Record(Record::Progress(progress)));
            }
            !ended
        });
        queue.live = live;
        self.journal.bound(&mut queue);
    }

    /// Queues the traffic since the last time, and a sign of life.
    fn count_traffic(&mut self) {
        self.journal.record(Record::Alive { run: self.journal.run().to_owned(), at: Timestamp::now() });
        let hour = hour(Timestamp::now());
        for (site, now) in self.tunnels.traffic() {
            let before = self.counted.insert(site.clone(), now).unwrap_or_default();
            if now != before {
                self.journal.record(Record::Traffic(TrafficShare {
                    site,
                    hour,
                    searches: now.searches - before.searches,
                    errors: now.errors - before.errors,
                    bytes: now.bytes - before.bytes,
                }));
            }
        }
    }

    /// Writes until no record waits, or until the database fails.
    async fn write_all(&mut self) {
        loop {
            if self.batch.is_empty() {
                self.fill().await;
            }
            if self.batch.is_empty() {
                return self.succeeded();
            }
            match self.store.write(&self.batch).await {
                Ok(()) => self.batch.clear(),
                Err(error) if error.is_about_the_record() => self.write_one_by_one().await,
                Err(error) => {
                    self.failed(&error);
                    return self.spill().await;
                }
            }
        }
    }

    /// Takes out the next records. Those on disk are older than those in memory, so they come first.
    async fn fill(&mut self) {
        let done = std::mem::take(&mut self.from_spool);
        if self.spool.as_ref().is_some_and(|spool| spool.records() > 0) {
            let read = self.with_spool(move |spool| {
                if done > 0 {
                    spool.delivered(done)?;
                }
                spool.next(BATCH)
            });
            self.batch = read.await.unwrap_or_default();
            self.from_spool = self.batch.len();
        }
        if self.batch.is_empty() {
            self.batch = self.journal.lock().take(BATCH);
        }
    }

    /// Moves the records in memory to the spool, if there is one. Traffic stays in memory: if it were written
    /// twice, it would be counted twice.
    async fn spill(&mut self) {
        if self.spool.is_none() {
            return;
        }
        let is_waiting = |record: &Record| !matches!(record, Record::Alive { .. } | Record::Traffic(_));
        let mut records = std::mem::take(&mut self.batch);
        if std::mem::take(&mut self.from_spool) > 0 {
            // These records are in the spool already.
            records.clear();
        }
        records.extend(self.journal.lock().take(usize::MAX));
        let (waiting, kept): (Vec<_>, Vec<_>) = records.into_iter().partition(is_waiting);
        let kept = kept.into_iter().filter(|record| matches!(record, Record::Traffic(_))).collect();
        let appended = self.append(waiting, Spool::sync).await;
        self.journal.put_back(appended.left);
        self.journal.put_back(kept);
        self.journal.lock().in_hand = 0;
    }

    /// Appends records to the spool as far as it takes them, and then runs `further`.
    async fn append(
        &mut self,
        records: Vec<Record>,
        further: impl FnOnce(&Spool) -> io::Result<()> + Send + 'static,
    ) -> Appended {
        let appended = self.with_spool(move |spool| {
            let taken = spool.append(&records).and_then(|taken| further(spool).map(|()| taken));
            let taken = taken.unwrap_or_else(|error| {
                tracing::error!(
                    %error,
                    code = "audit_log.spool_failed",
                    "cannot write the spool: audit events and history wait in memory"
                );
                0
            });
            let mut spooled = records;
            let left = spooled.split_off(taken);
            Ok(Appended { spooled, left })
        });
        appended.await.unwrap_or_default()
    }

    /// Runs `work` with the spool on a blocking thread. Returns a default if there is no spool.
    async fn with_spool<T: Default + Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Spool) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let Some(mut spool) = self.spool.take() else { return Ok(T::default()) };
        let worked = tokio::task::spawn_blocking(move || {
            let worked = work(&mut spool);
            (spool, worked)
        });
        let (spool, worked) = worked.await.map_err(io::Error::other)?;
        self.journal.shared.spooled.store(spool.records(), Ordering::Relaxed);
        self.spool = Some(spool);
        if let Err(error) = &worked {
            tracing::error!(%error, code = "audit_log.spool_unusable", "cannot use the spool");
        }
        worked
    }

    /// Finds the records that the database does not accept, and skips them. If the database itself fails, the
    /// rest waits: the end of a delivery means nothing before its beginning.
    async fn write_one_by_one(&mut self) {
        let mut done = 0;
        for record in &self.batch {
            match self.store.write(std::slice::from_ref(record)).await {
                Ok(()) => {}
                Err(error) if error.is_about_the_record() => {
                    self.journal.lose(1);
                    tracing::error!(
                        %error,
                        cause = error.cause(),
                        code = "audit_log.entry_rejected",
                        "the database rejected an audit or history entry, which is lost"
                    );
                }
                Err(_) => break,
            }
            done += 1;
        }
        self.batch.drain(..done);
    }

    fn succeeded(&self) {
        let mut queue = self.journal.lock();
        queue.in_hand = 0;
        if queue.failing.take().is_some() {
            tracing::info!(code = "audit_log.recovered", "the audit log and history are written again");
        }
    }

    fn failed(&self, error: &StoreError) {
        let cause = error.cause();
        let mut queue = self.journal.lock();
        let since = match &queue.failing {
            Some((since, _)) => *since,
            None => {
                tracing::error!(
                    %error,
                    cause,
                    code = "audit_log.failed",
                    "cannot write the audit log and history: they wait in memory"
                );
                Timestamp::now()
            }
        };
        queue.failing = Some((since, format!("{error}: {cause}")));
    }
}

/// Which deliveries are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// Those that have made progress or ended.
    All,
    /// Those that have ended.
    Ends,
}

/// What became of records for the spool.
#[derive(Debug, Default)]
struct Appended {
    spooled: Vec<Record>,
    /// Those that the spool did not take.
    left: Vec<Record>,
}

/// Puts the progress of deliveries into their events, where both are among the records: one row is written once.
fn joined(records: Vec<Record>) -> Vec<Record> {
    let mut open = HashMap::new();
    let mut joined: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        if let Record::Progress(progress) = &record
            && let Some(at) = open.get(&progress.request_id)
            && let Some(Record::Audit(event)) = joined.get_mut(*at)
        {
            (event.bytes, event.closed, event.outcome) = (progress.bytes, progress.closed, progress.outcome);
            continue;
        }
        if let Record::Audit(event) = &record
            && event.outcome == Outcome::Open
        {
            open.insert(event.request_id.clone(), joined.len());
        }
        joined.push(record);
    }
    joined
}
