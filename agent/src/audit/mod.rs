//! The agent's audit log: a line of JSON for every search and every delivery, in a file at the site. The customer is
//! responsible for the recordings and need not rely on the relay's word for what became of them.
//!
//! Requests put events into a bounded queue (`queue`), where one client's repeats are counted (`repeats`). One thread
//! (`writer`) writes them into a file that is rotated (`rotation`). Rotated files (`aside`) stay for a minimum time,
//! regardless of their size. A disk that is nearly full and an audit log that grows too fast raise alarms (`alarms`).
//! `erase` removes a call from all files.

mod alarms;
mod aside;
pub(crate) mod call_in_log;
mod entry;
mod erase;
pub mod event;
mod queue;
mod repeats;
mod rotation;
mod unended;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use axum::extract::Request;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use self::{
    event::{Event, Kind},
    queue::{Asker, Queue},
    writer::Writer,
};
use crate::status::problems::{AUDIT_LOG, Problems};

pub(crate) use self::entry::{Denied, Entry, Known};
pub use self::{
    alarms::space_warning,
    erase::{EraseError, Erased, Erasure, erase},
    rotation::{AuditLogError, AuditLogSettings},
};

/// How long the tasks of bodies that were cut may take to drop them.
const LAST_ENTRIES: Duration = Duration::from_secs(2);
/// How long the last lines may take; after that, the disk is considered dead.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Takes events and never blocks. Cheap to clone; all clones share one queue. When the last clone is dropped, the
/// thread writes everything and ends.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    problems: Problems,
    open: TaskTracker,
    thread: OnceLock<()>,
    /// Distinguishes the deliveries of this run from those of other runs.
    run: String,
    deliveries: AtomicU64,
}

impl Recorder {
    /// Records nothing until it is configured. Failures are noted in `problems`.
    pub fn new(problems: Problems) -> Self {
        let queue = Arc::new(Queue::default());
        Self(Arc::new(Handle {
            queue,
            problems,
            open: TaskTracker::new(),
            thread: OnceLock::new(),
            run: data_encoding::HEXLOWER.encode(&rand::random::<[u8; 8]>()),
            deliveries: AtomicU64::new(0),
        }))
    }

    /// Writes to this file from now on, or nowhere. A file that was moved away in the meantime is begun anew.
    pub fn configure(&self, settings: Option<AuditLogSettings>) {
        if settings.is_some() {
            self.0.thread.get_or_init(|| self.start());
        }
        if self.0.thread.get().is_some() {
            self.0.queue.turn_to(settings);
        }
    }

    /// Waits for running requests, and until everything is written. After that nothing is recorded.
    pub async fn finish(&self) {
        self.0.open.close();
        // A body that is still held after this has no end that could be recorded.
        let _ = timeout(LAST_ENTRIES, self.0.open.wait()).await;
        if self.0.thread.get().is_none() {
            return;
        }
        let (sender, written) = oneshot::channel();
        self.0.queue.stop(Some(sender));
        // The thread ends by dropping the sender.
        if timeout(LAST_LINES, written).await.is_err() {
            tracing::error!(
                code = "audit_log.lines_lost",
                "the last lines of the audit log could not be written in time"
            );
        }
    }

    /// Begins an event, unless nothing is recorded.
    pub(crate) fn begin(&self, kind: Kind, request: &Request) -> Option<Entry> {
        let on = self.0.queue.is_on();
        on.then(|| Entry::begin(self.clone(), kind, request, self.0.open.token()))
    }

    /// An id for the next delivery.
    fn delivery(&self) -> String {
        format!("{}-{}", self.0.run, self.0.deliveries.fetch_add(1, Ordering::Relaxed))
    }

    /// Queues an event. Returns true if it gets a line of its own.
    fn push(&self, event: Event, asker: Asker) -> bool {
        self.0.queue.push(event, asker)
    }

    fn start(&self) {
        let writer = Writer::new(Arc::clone(&self.0.queue), self.0.problems.clone(), self.0.run.clone());
        let thread = thread::Builder::new().name("audit-log".to_owned()).spawn(|| writer.run());
        if let Err(error) = thread {
            tracing::error!(
                %error,
                code = "audit_log.not_started",
                "the audit log is not written, because its thread could not start"
            );
            self.0.problems.note(
                AUDIT_LOG,
                Some("the audit log is not written, because its thread could not start".to_owned()),
            );
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.stop(None);
    }
}
