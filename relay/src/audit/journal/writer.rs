//! The task that writes the journal's records to the database.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Journal, OpenTunnels, Spool, Waiting, repair::repair};
use crate::{
    model::audit::Outcome,
    store::{Record, Store, StoreError, Traffic, TrafficShare, hour},
};

/// How long records are collected before they are written. A relay that is killed may lose the records of this
/// time.
const GATHER: Duration = Duration::from_millis(10);
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
    /// The place where records wait while the database is away. `None` while a blocking thread uses it.
    spool: Option<Spool>,
    counted: HashMap<SiteId, Traffic>,
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
        Self { journal, store, tunnels, batch, from_spool: 0, spool, counted }
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
                    self.follow_deliveries();
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
            }
            if self.journal.lock().closed {
                break;
            }
            self.write_all().await;
        }
        self.follow_deliveries();
        self.journal.count_unauthenticated(true);
        self.count_traffic();
        let _ = timeout(LAST_WRITES, async {
            self.write_all().await;
            self.store.stop_run(self.journal.run()).await
        })
        .await;
        self.spill().await;
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
    fn follow_deliveries(&mut self) {
        let mut queue = self.journal.lock();
        let failing = queue.failing.is_some();
        let mut live = std::mem::take(&mut queue.live);
        live.retain(|delivery| {
            let progress = delivery.progress();
            let ended = progress.outcome != Outcome::Open;
            if ended || (delivery.is_news(progress.bytes) && !failing) {
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
        let appended = self.with_spool(move |spool| {
            let taken = spool.append(&waiting).unwrap_or_else(|error| {
                tracing::error!(
                    %error,
                    code = "audit_log.spool_failed",
                    "cannot write the spool: audit events and history wait in memory"
                );
                0
            });
            Ok((taken, waiting))
        });
        if let Ok((taken, mut waiting)) = appended.await {
            self.journal.put_back(waiting.split_off(taken));
        }
        self.journal.put_back(kept);
        self.journal.lock().in_hand = 0;
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
