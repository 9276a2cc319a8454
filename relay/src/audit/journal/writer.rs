//! The one who writes the journal.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Journal, OpenTunnels, Spool, Waiting, repair::repair};
use crate::{
    model::audit::Outcome,
    store::{Record, Store, StoreError, Traffic, TrafficShare, hour},
};

/// How long records gather before they are written: what a relay that is killed may not have on record.
const GATHER: Duration = Duration::from_millis(10);
/// How often it is written how far deliveries have come.
const EVERY: Duration = Duration::from_secs(1);
/// How often traffic is added up and a sign of life is given, in ticks of [`EVERY`].
const SLOW_TICKS: u64 = 10;
/// How often the books are held against the tunnels that are here, in ticks of [`EVERY`].
const REPAIR_TICKS: u64 = 30;
/// Records written in one transaction: the write lock is held for some ten milliseconds.
const BATCH: usize = 500;
/// How long the last records may take when the relay stops.
const LAST_WRITES: Duration = Duration::from_secs(3);

pub(super) struct Writer {
    journal: Journal,
    store: Store,
    tunnels: Arc<dyn OpenTunnels>,
    /// What was taken out of the queue, or read from the spool, and is not yet written.
    batch: Vec<Record>,
    /// How many records of the batch were read from the spool.
    from_spool: usize,
    /// Where records wait while the database is away; none while a thread that may wait has it.
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
        let (batch, counted) = (Vec::new(), HashMap::new());
        Self { journal, store, tunnels, batch, from_spool: 0, spool, counted }
    }

    pub(super) async fn run(mut self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticked = 0;
        loop {
            // While the database fails it is tried once a second, not whenever something happens.
            let failing = self.journal.lock().failing.is_some();
            tokio::select! {
                _ = ticks.tick() => {
                    self.follow_deliveries();
                    self.journal.count_strangers(false);
                    // What passes meanwhile is counted when the database is back.
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
        self.journal.count_strangers(true);
        self.count_traffic();
        let _ = timeout(LAST_WRITES, async {
            self.write_all().await;
            self.store.stop_run(self.journal.run()).await
        })
        .await;
        self.spill().await;
    }

    /// Relays die at any time, this one's predecessor among them.
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

    /// Hands in how the deliveries under way stand. While nothing can be written only their ends are worth a place.
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

    /// Hands in what has passed since the last time, with a sign of life.
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

    /// Writes until nothing waits, or until the database fails.
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

    /// Takes out what is written next: what waits on disk came before what waits in memory.
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

    /// Has what waits in memory wait on disk, where there is a place for it. Traffic stays, since writing it twice would count
    /// it twice.
    async fn spill(&mut self) {
        if self.spool.is_none() {
            return;
        }
        let is_waiting = |record: &Record| !matches!(record, Record::Alive { .. } | Record::Traffic(_));
        let mut records = std::mem::take(&mut self.batch);
        if std::mem::take(&mut self.from_spool) > 0 {
            // It is there already.
            records.clear();
        }
        records.extend(self.journal.lock().take(usize::MAX));
        let (waiting, kept): (Vec<_>, Vec<_>) = records.into_iter().partition(is_waiting);
        let kept = kept.into_iter().filter(|record| matches!(record, Record::Traffic(_))).collect();
        let appended = self.with_spool(move |spool| {
            let taken = spool.append(&waiting).unwrap_or_else(|error| {
                tracing::error!(%error, "the spool cannot be written: audit and history wait in memory");
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

    /// Works with the spool on a thread that may wait for a disk; a default where there is none.
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
            tracing::error!(%error, "the spool cannot be used");
        }
        worked
    }

    /// Finds the record that the database does not take, and goes on without it. Where the database itself fails, the
    /// rest waits: the end of a delivery means nothing before its beginning.
    async fn write_one_by_one(&mut self) {
        let mut done = 0;
        for record in &self.batch {
            match self.store.write(std::slice::from_ref(record)).await {
                Ok(()) => {}
                Err(error) if error.is_about_the_record() => {
                    self.journal.lose(1);
                    tracing::error!(%error, cause = error.cause(), "the journal cannot take a record");
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
            tracing::info!("the journal is written again");
        }
    }

    fn failed(&self, error: &StoreError) {
        let cause = error.cause();
        let mut queue = self.journal.lock();
        let since = match &queue.failing {
            Some((since, _)) => *since,
            None => {
                tracing::error!(%error, cause, "the journal cannot be written: audit and history wait in memory");
                Timestamp::now()
            }
        };
        queue.failing = Some((since, format!("{error}: {cause}")));
    }
}
