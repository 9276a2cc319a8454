//! The journal: writes the audit log and the history of tunnels and traffic to the database, without slowing
//! down what it records.
//!
//! Records wait in a bounded queue. A writer takes them in batches, within a hundredth of a second; the
//! progress of deliveries is written once a second. With a spool, the events of a busy relay go to a file on the
//! local disk first, and into the database in large transactions twice a second: a row that is written alone
//! changes pages of a table and four indexes, and pages of many rows are written once. If the database is full,
//! locked or gone, records wait in the spool, or in memory without one. They are lost in the end, but no download
//! ever fails because of it. The relay counts and shows how many records wait and how many were lost.

mod delivery;
mod line;
mod repair;
mod spool;
mod writer;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use audiovault_common::request_id::new_id;
use audiovault_protocol::admission::connection::ConnectionMeter;
use audiovault_protocol::{
    admission::unauthenticated::{Suppressed, UnauthenticatedLimit},
    identity::site::SiteId,
};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::{sync::Notify, task::JoinHandle};

use self::delivery::Live;
pub use self::{
    delivery::{Delivery, DeliveryEnd},
    repair::OpenTunnels,
    spool::{MAX_SPOOL_LEN, Spool, SpoolError},
};
use crate::{
    model::audit::{AuditEvent, Outcome},
    store::{Record, Store},
};

/// The maximum number of records that wait. At about 500 bytes each they take 10 MiB. They are a busy relay's
/// searches and deliveries of several minutes: longer than a database needs to recover.
const MAX_WAITING: usize = 20_000;

/// The health of the journal.
#[derive(Debug, Clone, Default, Serialize)]
pub struct JournalHealth {
    /// Records that wait to be written, in memory or on a local disk.
    pub waiting: usize,
    /// Records that were lost since the relay started because too many waited.
    pub lost: u64,
    /// Since when the database could not be written, if it cannot be written now.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl JournalHealth {
    /// True unless the last attempt to write failed.
    pub fn is_well(&self) -> bool {
        self.failing_since.is_none()
    }
}

/// What waits for the writer.
#[derive(Debug)]
enum Waiting {
    Record(Record),
    /// A delivery that has begun. If it has ended by the time it is written, it is written once, complete.
    Delivery(Box<AuditEvent>, Arc<Live>),
}

impl Waiting {
    /// True for events of the audit log and the progress of deliveries.
    fn is_event(&self) -> bool {
        matches!(self, Self::Delivery(..) | Self::Record(Record::Audit(_) | Record::Progress(_)))
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The number of records that the writer holds.
    in_hand: usize,
    /// Deliveries whose beginning was taken out and whose end is not known yet.
    live: Vec<Arc<Live>>,
    failing: Option<(Timestamp, String)>,
    closed: bool,
}

impl Queue {
    /// Takes out the events before the first record of another kind.
    fn take_events(&mut self) -> Vec<Record> {
        let other = self.waiting.iter().position(|waiting| !waiting.is_event());
        self.take(other.unwrap_or(usize::MAX))
    }

    /// True if the first record is no event. Other relays and pages wait for it.
    fn is_urgent(&self) -> bool {
        self.waiting.front().is_some_and(|waiting| !waiting.is_event())
    }

    /// Takes out the records that are written next, at most `most`.
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
    /// The number of records that wait on disk.
    spooled: AtomicU64,
    /// Notified when a record has come, and when the journal is closed.
    news: Notify,
    /// Keeps unauthenticated clients from filling the audit log, for each site separately.
    unauthenticated: Mutex<HashMap<SiteId, UnauthenticatedLimit<Timestamp>>>,
}

/// The queue into which all parts of the relay put their records. Cheap to clone.
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
    /// Starts the journal of this run: ends what earlier runs left open in the database, and begins to write.
    pub fn start(store: Store, tunnels: Arc<dyn OpenTunnels>) -> JournalWriter {
        Self::start_with(store, tunnels, None)
    }

    /// As [`Journal::start`], with a spool on a local disk for the records that wait for the database.
    pub fn start_with(store: Store, tunnels: Arc<dyn OpenTunnels>, spool: Option<Spool>) -> JournalWriter {
        let spooled = AtomicU64::new(spool.as_ref().map_or(0, Spool::records));
        let queue = Mutex::default();
        let lost = AtomicU64::new(0);
        let news = Notify::new();
        let shared = Shared { queue, lost, spooled, news, unauthenticated: Mutex::default() };
        let journal = Self { shared: Arc::new(shared), run: new_id().into() };
        let writer = writer::Writer::new(journal.clone(), store, tunnels, spool);
        JournalWriter { journal, task: tokio::spawn(writer.run()) }
    }

    /// The id of this run of the relay.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Queues a record. If too many wait, the oldest is lost.
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

    /// Queues the event of a request that was refused because of its token or link. If there are many at one
    /// site, a few get rows of their own, and the others are only counted.
    pub fn record_unauthenticated(&self, event: AuditEvent) {
        let mut unauthenticated = self.shared.unauthenticated.lock();
        let of_site = unauthenticated.entry(event.site.clone()).or_default();
        let admitted = of_site.admit(Instant::now(), event.opened);
        drop(unauthenticated);
        if admitted {
            self.record(Record::Audit(Box::new(event)));
        }
    }

    /// Queues the number of requests without a row, for every site whose minute is over; for all sites if
    /// `last`.
    fn count_unauthenticated(&self, last: bool) {
        let now = Instant::now();
        let mut unauthenticated = self.shared.unauthenticated.lock();
        let closed = unauthenticated
            .iter_mut()
            .filter_map(|(site, of_site)| Some((site.clone(), of_site.close(now, last)?)));
        let closed: Vec<_> = closed.collect();
        drop(unauthenticated);
        for (site, Suppressed { since, count }) in closed {
            let event = AuditEvent::suppressed(new_id(), site, since, count);
            self.record(Record::Audit(Box::new(event)));
        }
    }

    /// Begins a delivery whose bytes go to the metered connection. Its event is closed when the connection has
    /// taken all bytes or has ended.
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

    /// The health of the journal.
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
        self.shared.queue.lock()
    }

    fn bound(&self, queue: &mut Queue) {
        let surplus = queue.waiting.len().saturating_sub(MAX_WAITING);
        queue.waiting.drain(..surplus);
        self.lose(surplus as u64);
    }

    /// Puts records back to the front of the queue.
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
    /// The queue of this journal.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Writes what waits, and ends. Records that the database does not take now are lost, unless there is a
    /// spool.
    pub async fn close(self) {
        self.journal.lock().closed = true;
        self.journal.shared.news.notify_one();
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests;
