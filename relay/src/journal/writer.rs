//! The one who writes the journal.

use std::{collections::HashMap, sync::Arc, time::Duration};

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Journal, Waiting};
use crate::{
    audit::Outcome,
    registry::Registry,
    store::{Record, Store, StoreError, Traffic, TrafficShare, hour},
};

/// How long records gather before they are written: what a relay that is killed may not have on record.
const GATHER: Duration = Duration::from_millis(10);
/// How often it is written how far deliveries have come.
const EVERY: Duration = Duration::from_secs(1);
/// How often traffic is added up and a sign of life is given, in ticks of [`EVERY`].
const SLOW_TICKS: u64 = 10;
/// Records written in one transaction: the write lock is held for some ten milliseconds.
const BATCH: usize = 500;
/// How long the last records may take when the relay stops.
const LAST_WRITES: Duration = Duration::from_secs(3);

pub(super) struct Writer {
    journal: Journal,
    store: Store,
    registry: Arc<Registry>,
    /// What was taken out of the queue and is not yet written.
    batch: Vec<Record>,
    counted: HashMap<SiteId, Traffic>,
}

impl Writer {
    pub(super) fn new(journal: Journal, store: Store, registry: Arc<Registry>) -> Self {
        Self { journal, store, registry, batch: Vec::new(), counted: HashMap::new() }
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
                    if ticked % SLOW_TICKS == 0 {
                        self.count_traffic();
                        self.close_orphans().await;
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
        self.count_traffic();
        let _ = timeout(LAST_WRITES, async {
            self.write_all().await;
            self.store.stop_run(self.journal.run()).await
        })
        .await;
    }

    /// Relays die at any time, this one's predecessor among them.
    async fn close_orphans(&self) {
        if let Err(error) = self.store.close_orphans(self.journal.run()).await {
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
        for (site, counters) in self.registry.all_counters() {
            let now = counters.totals();
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
                self.batch = self.journal.lock().take(BATCH);
            }
            if self.batch.is_empty() {
                return self.succeeded();
            }
            match self.store.write(&self.batch).await {
                Ok(()) => self.batch.clear(),
                Err(error) if error.is_about_the_record() => self.write_one_by_one().await,
                Err(error) => return self.failed(&error),
            }
        }
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
