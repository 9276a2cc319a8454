//! Writes down what happens without ever slowing it: records wait in a bounded queue for a writer that takes them in
//! batches, within a hundredth of a second; how deliveries go on is written once a second. A database that is full, locked or gone costs records in the end, never a download; what
//! waits and what was lost is counted and shown. With a directory for it, what waits does so on a local disk.

mod delivery;
mod open_tunnels;
mod repair;
mod spool;
mod writer;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use audiovault_protocol::{
    site::SiteId,
    strangers::{Strangers, Suppressed},
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::{sync::Notify, task::JoinHandle};

use self::delivery::Live;
pub use self::{
    delivery::{Delivery, DeliveryEnd},
    open_tunnels::OpenTunnels,
    spool::{MAX_SPOOL_LEN, Spool, SpoolError},
};
use crate::{
    model::{
        audit::{AuditEvent, Outcome},
        ids::new_id,
    },
    net::listen::ConnectionMeter,
    store::{Record, Store},
};

/// Records that may wait. At some 500 octets each this is 10 MiB, and a busy relay's searches and deliveries of
/// several minutes: longer than a database that recovers is away.
const MAX_WAITING: usize = 20_000;

/// How the journal is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct JournalHealth {
    /// Records that wait to be written, in memory or on a local disk.
    pub waiting: usize,
    /// Records that were lost since the relay started because too many waited.
    pub lost: u64,
    /// Since when nothing could be written.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl JournalHealth {
    /// Whether everything could be written so far.
    pub fn is_well(&self) -> bool {
        self.failing_since.is_none()
    }
}

/// What waits for the writer.
#[derive(Debug)]
enum Waiting {
    Record(Record),
    /// A delivery that has begun. One that is over by the time it is written is written once, as a whole.
    Delivery(Box<AuditEvent>, Arc<Live>),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Records that the writer holds.
    in_hand: usize,
    /// Deliveries whose beginning was taken out and whose end is not yet known.
    live: Vec<Arc<Live>>,
    failing: Option<(Timestamp, String)>,
    closed: bool,
}

impl Queue {
    /// Takes out what is written next.
    fn take(&mut self, most: usize) -> Vec<Record> {
        let count = self.waiting.len().min(most);
        self.in_hand = count;
        let taken: Vec<Waiting> = self.waiting.drain(..count).collect();
        taken.into_iter().map(|waiting| self.record(waiting)).collect()
    }

    fn record(&mut self, waiting: Waiting) -> Record {
        match waiting {
            Waiting::Record(record) => record,
            Waiting::Delivery(mut event, live) => {
                let progress = live.progress();
                if progress.outcome == Outcome::Open {
                    self.live.push(live);
                } else {
                    (event.bytes, event.closed, event.outcome) =
                        (progress.bytes, progress.closed, progress.outcome);
                }
                Record::Audit(event)
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    lost: AtomicU64,
    /// Records that wait on disk.
    spooled: AtomicU64,
    /// A record has come, or the end.
    news: Notify,
    /// Keeps strangers from filling the audit; for each site by itself.
    strangers: Mutex<HashMap<SiteId, Strangers<Timestamp>>>,
}

/// Where what happens is handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    run: Arc<str>,
}

/// The task that writes the journal.
#[derive(Debug)]
pub struct JournalWriter {
    journal: Journal,
    task: JoinHandle<()>,
}

impl Journal {
    /// Begins the journal of a run: ends in the books what earlier runs left open, and starts to write.
    pub fn start(store: Store, tunnels: Arc<dyn OpenTunnels>) -> JournalWriter {
        Self::start_with(store, tunnels, None)
    }

    /// As [`Journal::start`], with a place on a local disk for what waits while the database is away.
    pub fn start_with(store: Store, tunnels: Arc<dyn OpenTunnels>, spool: Option<Spool>) -> JournalWriter {
        let spooled = AtomicU64::new(spool.as_ref().map_or(0, Spool::records));
        let (queue, lost, news) = (Mutex::default(), AtomicU64::new(0), Notify::new());
        let shared = Shared { queue, lost, spooled, news, strangers: Mutex::default() };
        let journal = Self { shared: Arc::new(shared), run: new_id().into() };
        let writer = writer::Writer::new(journal.clone(), store, tunnels, spool);
        JournalWriter { journal, task: tokio::spawn(writer.run()) }
    }

    /// Names this run of the relay.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Hands in a record; if too many wait, the oldest is lost.
    pub fn record(&self, mut record: Record) {
        if let Record::Audit(event) = &mut record {
            event.run = Some(self.run().to_owned());
        }
        let mut queue = self.lock();
        queue.waiting.push_back(Waiting::Record(record));
        self.bound(&mut queue);
        drop(queue);
        self.shared.news.notify_one();
    }

    /// Hands in a request that was refused because of its token or link. Of many at one site a few have rows, and the others are counted.
    pub fn record_stranger(&self, event: AuditEvent) {
        let mut strangers = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_site = strangers.entry(event.site.clone()).or_default();
        let admitted = of_site.admit(Instant::now(), event.opened);
        drop(strangers);
        if admitted {
            self.record(Record::Audit(Box::new(event)));
        }
    }

    /// Hands in how many requests had no row, of every site whose minute is over; of all, if these are the last.
    fn count_strangers(&self, last: bool) {
        let now = Instant::now();
        let mut strangers = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = strangers
            .iter_mut()
            .filter_map(|(site, of_site)| Some((site.clone(), of_site.close(now, last)?)));
        let closed: Vec<_> = closed.collect();
        drop(strangers);
        for (site, Suppressed { since, count }) in closed {
            let event = AuditEvent::suppressed(new_id(), site, since, count);
            self.record(Record::Audit(Box::new(event)));
        }
    }

    /// Begins a delivery whose octets go to the metered connection. The record of it is closed when the connection
    /// has taken what there is, or has ended.
    pub fn deliver(&self, mut event: AuditEvent, meter: Option<Arc<ConnectionMeter>>) -> Delivery {
        event.run = Some(self.run().to_owned());
        let live = Arc::new(Live::new(event.request_id.clone(), meter));
        let mut queue = self.lock();
        queue.waiting.push_back(Waiting::Delivery(Box::new(event), Arc::clone(&live)));
        self.bound(&mut queue);
        drop(queue);
        self.shared.news.notify_one();
        Delivery::new(live)
    }

    /// How the journal is.
    pub fn health(&self) -> JournalHealth {
        let spooled = usize::try_from(self.shared.spooled.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let queue = self.lock();
        JournalHealth {
            waiting: queue.waiting.len() + queue.in_hand + spooled,
            lost: self.shared.lost.load(Ordering::Relaxed),
            failing_since: queue.failing.as_ref().map(|(since, _)| *since),
            error: queue.failing.as_ref().map(|(_, error)| error.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bound(&self, queue: &mut Queue) {
        let surplus = queue.waiting.len().saturating_sub(MAX_WAITING);
        queue.waiting.drain(..surplus);
        self.lose(surplus as u64);
    }

    /// Puts records back before all others.
    fn put_back(&self, records: Vec<Record>) {
        let mut queue = self.lock();
        for record in records.into_iter().rev() {
            queue.waiting.push_front(Waiting::Record(record));
        }
        self.bound(&mut queue);
    }

    fn lose(&self, records: u64) {
        self.shared.lost.fetch_add(records, Ordering::Relaxed);
    }
}

impl JournalWriter {
    /// Where what happens is handed in.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Writes what waits and ends; a database that does not answer now loses it.
    pub async fn close(self) {
        self.journal.lock().closed = true;
        self.journal.shared.news.notify_one();
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests;
