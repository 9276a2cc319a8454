//! The customer's own record: a line of JSON for every search and every delivery, in a file beside the agent. The
//! customer answers for the recordings and need not take the relay's word for what became of them.
//!
//! Requests leave events in a bounded queue (`queue`), where one client's repeats are counted (`repeats`); one thread writes them
//! (`writer`) into a file that is rotated (`rotation`). Files that are put aside (`aside`) stay for a time that no size undercuts; a disk
//! that gets full and a record that grows too fast are alarms (`alarms`). `erase` makes all files forget a call.

mod alarms;
mod aside;
mod body;
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
use crate::problems::{AUDIT_LOG, Problems};

pub(crate) use self::entry::{Denied, Entry, Known};
pub use self::{
    alarms::space_warning,
    erase::{EraseError, Erased, Erasure, erase},
    rotation::{RecordError, RecordSettings},
};

/// How long bodies that were cut may take to be dropped by their tasks.
const LAST_ENTRIES: Duration = Duration::from_secs(2);
/// How long the last lines may take: more, and the disk is dead.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Takes what happened and never waits. Cheap to clone; all clones are one. The last one that goes ends the thread,
/// after it has written everything.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    problems: Problems,
    open: TaskTracker,
    thread: OnceLock<()>,
    /// Tells deliveries of this run from those of others.
    run: String,
    deliveries: AtomicU64,
}

impl Recorder {
    /// Records nothing until it is configured to. What goes wrong is noted among the problems.
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

    /// Records there from now on, or nowhere. A file that was moved away meanwhile is begun anew.
    pub fn configure(&self, settings: Option<RecordSettings>) {
        if settings.is_some() {
            self.0.thread.get_or_init(|| self.start());
        }
        if self.0.thread.get().is_some() {
            self.0.queue.turn_to(settings);
        }
    }

    /// Waits for what is under way, and until everything is written; nothing is recorded any more.
    pub async fn finish(&self) {
        self.0.open.close();
        // A body that is still held by somebody now has no end to tell of.
        let _ = timeout(LAST_ENTRIES, self.0.open.wait()).await;
        if self.0.thread.get().is_none() {
            return;
        }
        let (sender, written) = oneshot::channel();
        self.0.queue.stop(Some(sender));
        // The thread ends by dropping the sender.
        if timeout(LAST_LINES, written).await.is_err() {
            tracing::error!("the last lines of the audit log could not be written in time");
        }
    }

    /// Begins an event, unless nothing is recorded.
    pub(crate) fn begin(&self, kind: Kind, request: &Request) -> Option<Entry> {
        let on = self.0.queue.is_on();
        on.then(|| Entry::begin(self.clone(), kind, request, self.0.open.token()))
    }

    /// A name for the next delivery.
    fn delivery(&self) -> String {
        format!("{}-{}", self.0.run, self.0.deliveries.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the event has a line of its own.
    fn push(&self, event: Event, asker: Asker) -> bool {
        self.0.queue.push(event, asker)
    }

    fn start(&self) {
        let writer = Writer::new(Arc::clone(&self.0.queue), self.0.problems.clone(), self.0.run.clone());
        let thread = thread::Builder::new().name("audit-log".to_owned()).spawn(|| writer.run());
        if let Err(error) = thread {
            tracing::error!(%error, "the audit log has no thread and is not written");
            self.0
                .problems
                .note(AUDIT_LOG, Some("the audit log has no thread and is not written".to_owned()));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.stop(None);
    }
}
