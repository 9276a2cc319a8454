//! The agent's audit log: a line of JSON for every search and every delivery, in a file at the site. The customer is
//! responsible for the recordings and need not rely on the relay's word for what became of them.
//!
//! A request begins an entry, which becomes an event when it is over. Events come into a bounded queue (`queue`),
//! where one client's repeats are counted (`repeats`). One thread (`writer`) writes them into a file that is rotated
//! (`rotation`). Rotated files stay for a minimum time, regardless of their size. A disk that is nearly full and an
//! audit log that grows too fast raise alarms. `erase` removes a call from all files.

mod erase;
pub mod event;
mod queue;
mod repeats;
mod rotation;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use audiovault_common::observed_body::BodyObserver;
use audiovault_protocol::{
    http::{
        context::{Audit, Lifeline, RequestContext},
        headers,
    },
    link::Revocation,
    recording::call::log_name,
};
use http::{HeaderMap, Method, StatusCode};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use self::{
    event::{Event, Kind, Outcome, bounded},
    queue::{Asker, Queue},
    writer::Writer,
};
use crate::status::{AUDIT_LOG, Problems};

pub use self::{
    erase::{EraseError, Erased, Erasure, erase},
    rotation::{AuditLogError, AuditLogSettings},
    writer::space_warning,
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

    /// Writes to this file from now on, or nowhere. If the file was moved away in the meantime, a new one is begun.
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
    pub(crate) fn begin(&self, kind: Kind, method: &Method, context: &RequestContext) -> Option<Entry> {
        let on = self.0.queue.is_on();
        on.then(|| Entry::begin(self.clone(), kind, method, context))
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

/// What an outcome says about its response, for the audit log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    /// What was asked for and found.
    pub(crate) audit: Option<&'a Audit>,
    /// Whether the client has shown an accepted token or a valid link. All other clients are unauthenticated.
    pub(crate) known: bool,
    /// Whether the deny list removed something.
    pub(crate) denied: bool,
    /// Ends the response early.
    pub(crate) revocation: Option<&'a Revocation>,
    /// The sentence that the client got with an error.
    pub(crate) problem: Option<&'a str>,
}

/// A delivery whose body is to be followed.
#[derive(Debug)]
pub(crate) struct Follow {
    /// Observes the body.
    pub(crate) entry: Entry,
    /// The length of the body in bytes, if the head says it.
    pub(crate) remaining: Option<u64>,
}

/// An event that is not over. Dropping it ends it and queues its line for the writer.
#[derive(Debug)]
pub(crate) struct Entry {
    event: Option<Event>,
    recorder: Recorder,
    began: Instant,
    asker: Asker,
    lifeline: Lifeline,
    revocation: Option<Revocation>,
    /// The outcome, once it is certain.
    outcome: Option<Outcome>,
    _open: TaskTrackerToken,
}

impl Entry {
    fn begin(recorder: Recorder, kind: Kind, method: &Method, context: &RequestContext) -> Self {
        let mut event = Event::new(kind, method.as_str(), &context.id);
        event.client = context.client.address.as_deref().map(bounded);
        event.user_agent = context.client.user_agent.as_deref().map(bounded);
        let open = recorder.0.open.token();
        Self {
            event: Some(event),
            recorder,
            began: Instant::now(),
            asker: Asker::Unauthenticated,
            lifeline: context.lifeline.clone(),
            revocation: None,
            outcome: None,
            _open: open,
        }
    }

    /// Takes the head of the response. If it delivers a recording, its body must be followed to the end; otherwise the
    /// event ends here.
    pub(crate) fn answered(mut self, status: StatusCode, head: &HeaderMap, said: Said<'_>) -> Option<Follow> {
        if said.known {
            self.asker = Asker::Known;
        }
        let none = Audit::default();
        let audit = said.audit.unwrap_or(&none);
        let event = self.event.as_mut()?;
        event.status = Some(status.as_u16());
        event.problem = said.problem.map(bounded);
        let text = |text: &Option<String>| text.as_deref().map(bounded);
        event.call_id = text(&audit.call_id);
        event.tenant = text(&audit.tenant);
        event.user = text(&audit.user);
        event.recording = text(&audit.recording);
        event.found = audit.found;
        let carries = event.kind == Kind::Delivery
            && event.method == Method::GET.as_str()
            && matches!(status.as_u16(), 200 | 206);
        if carries {
            self.revocation = said.revocation.cloned();
            (event.range_start, event.size) = headers::extent(head);
            event.delivery = Some(self.recorder.delivery());
            let begun = self.recorder.push(Event { kind: Kind::Begun, ..event.clone() }, Asker::Known);
            self.asker = if begun { Asker::Begun } else { Asker::Repeating };
            event.octets = Some(0);
            let remaining = headers::content_length(head);
            if remaining == Some(0) {
                // The connection does not poll a body without bytes, and so never sees its end.
                self.end(Outcome::Complete);
            }
            return Some(Follow { entry: self, remaining });
        }
        let refused = status.is_client_error() || status.is_server_error();
        self.end(match said.denied {
            true => Outcome::Denied,
            false if refused => Outcome::Refused,
            false => Outcome::Complete,
        });
        None
    }

    /// Sets the outcome, unless one is already set.
    fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }

    /// The outcome when the body was dropped without one: denied, cut, or left by the client.
    fn given_up(&self) -> Outcome {
        if self.revocation.as_ref().is_some_and(Revocation::has_happened) {
            Outcome::Denied
        } else if self.lifeline.is_cut() {
            Outcome::Cut
        } else {
            Outcome::Left
        }
    }
}

impl BodyObserver<io::Error> for Entry {
    fn passed(&mut self, bytes: u64) {
        if let Some(event) = &mut self.event {
            event.octets = Some(event.octets.unwrap_or_default() + bytes);
        }
    }

    fn completed(&mut self) {
        self.end(Outcome::Complete);
    }

    fn failed(&mut self, _error: &io::Error) {
        let given_up = self.given_up();
        self.end(if given_up == Outcome::Denied { given_up } else { Outcome::Cut });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut event) = self.event.take() else { return };
        event.outcome = Some(self.outcome.unwrap_or_else(|| self.given_up()));
        event.duration_ms = Some(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.recorder.push(event, self.asker);
    }
}

/// What stands for a call in the program's log: the same in all lines of a run. An id would outlive what is erased of
/// the call from the audit log, since the log is kept by others; to look for a request, use its id, which is in both.
pub(crate) fn call_in_log(call_id: &str) -> String {
    static KEY: LazyLock<[u8; 32]> = LazyLock::new(rand::random);
    log_name(&*KEY, call_id)
}
