//! The queues of commands to the drivers of both ends, how the task of a stream hands its response to the agent's
//! driver, and the figures that a driver publishes.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::{Close, body::Slot};
use crate::{
    frame::StreamId,
    message::{Goaway, RequestHead, ResetCode, ResponseHead, Status, Welcome},
};

/// One request on its way to the multiplexer.
pub(crate) struct Call {
    pub(crate) head: RequestHead,
    pub(crate) body: Bytes,
    pub(crate) slot: Arc<Slot>,
    /// How long the head of the response may take.
    pub(crate) patience: Duration,
}

/// Commands of callers and response bodies that wait for the next turn of the relay's driver.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) ended: bool,
    /// At most [`crate::limits::MAX_WAITING_CALLS`]; further calls fail at once.
    pub(crate) calls: VecDeque<Call>,
    /// At most one entry per stream, because entries are merged.
    pub(crate) consumed: BTreeMap<StreamId, u32>,
    pub(crate) released: Vec<StreamId>,
    pub(crate) welcome: Option<Welcome>,
    pub(crate) goaway: Option<Goaway>,
    pub(crate) close: Option<Close>,
}

/// The queue of commands to the relay's driver.
#[derive(Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    pub(crate) waker: AtomicWaker,
    pub(crate) gauges: Gauges,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox(…)")
    }
}

impl Mailbox {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }

    pub(crate) fn consume(&self, stream: StreamId, cost: u32) {
        self.leave(|inbox| *inbox.consumed.entry(stream).or_default() += cost);
    }

    pub(crate) fn release(&self, stream: StreamId) {
        self.leave(|inbox| inbox.released.push(stream));
    }

    /// Leaves a message and wakes the driver, unless the tunnel has ended.
    pub(crate) fn leave(&self, message: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.lock();
        if inbox.ended {
            return;
        }
        message(&mut inbox);
        drop(inbox);
        self.waker.wake();
    }
}

/// A command of a stream's task.
pub(crate) enum Command {
    Respond(StreamId, ResponseHead),
    /// At most one per stream waits here; the next one needs the driver's permission ([`Gate`]).
    Send(StreamId, Bytes),
    Finish(StreamId),
    Reset(StreamId, ResetCode, String),
}

/// Commands of streams and of the agent that wait for the driver's next turn.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) commands: VecDeque<Command>,
    pub(crate) status: Option<Status>,
    pub(crate) goaway: Option<Goaway>,
    pub(crate) close: Option<Close>,
}

/// The queue of commands to the agent's driver.
#[derive(Default)]
pub(crate) struct AgentMailbox {
    outbox: Mutex<Outbox>,
    pub(crate) waker: AtomicWaker,
    pub(crate) gauges: Gauges,
}

impl AgentMailbox {
    pub(crate) fn take(&self) -> Outbox {
        std::mem::take(&mut self.outbox.lock())
    }

    pub(crate) fn leave(&self, message: impl FnOnce(&mut Outbox)) {
        message(&mut self.outbox.lock());
        self.waker.wake();
    }
}

/// Decides when the task of a stream may send its next chunk.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    waits: bool,
    waker: Option<Waker>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.0.lock()
    }

    /// Lets the next chunk pass.
    pub(crate) fn open(&self) {
        let mut state = self.lock();
        state.waits = false;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.waits {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The sending end of one stream. If it is dropped before it was finished, it resets the stream: a failed task must not
/// look like a complete body.
pub(crate) struct Outlet {
    stream: StreamId,
    mailbox: Arc<AgentMailbox>,
    gate: Arc<Gate>,
    done: bool,
}

impl Outlet {
    pub(crate) fn new(stream: StreamId, mailbox: Arc<AgentMailbox>, gate: Arc<Gate>) -> Self {
        Self { stream, mailbox, gate, done: false }
    }

    pub(crate) fn respond(&self, head: ResponseHead) {
        self.mailbox.leave(|outbox| outbox.commands.push_back(Command::Respond(self.stream, head)));
    }

    /// Waits until the previous chunk was taken and there is room, then sends this one.
    pub(crate) async fn send(&self, chunk: Bytes) {
        poll_fn(|cx| self.gate.poll(cx)).await;
        self.gate.lock().waits = true;
        self.mailbox.leave(|outbox| outbox.commands.push_back(Command::Send(self.stream, chunk)));
    }

    pub(crate) fn finish(mut self) {
        self.done = true;
        self.mailbox.leave(|outbox| outbox.commands.push_back(Command::Finish(self.stream)));
    }

    pub(crate) fn reset(mut self, code: ResetCode, reason: String) {
        self.done = true;
        self.mailbox.leave(|outbox| outbox.commands.push_back(Command::Reset(self.stream, code, reason)));
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if !self.done {
            let reset =
                Command::Reset(self.stream, ResetCode::ReadFailed, "the agent failed inside".to_owned());
            self.mailbox.leave(|outbox| outbox.commands.push_back(reset));
        }
    }
}

/// Figures that the driver updates and that handles read.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    open_streams: AtomicUsize,
    /// 0 until a round trip was measured.
    rtt_micros: AtomicU64,
    silent: watch::Sender<bool>,
}

impl Gauges {
    pub(crate) fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open_streams(&self, count: usize) {
        self.open_streams.store(count, Ordering::Relaxed);
    }

    /// Follows whether the peer is silent when something should have been received from it.
    pub(crate) fn silence(&self) -> watch::Receiver<bool> {
        self.silent.subscribe()
    }

    pub(crate) fn is_silent(&self) -> bool {
        *self.silent.borrow()
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.send_if_modified(|before| std::mem::replace(before, silent) != silent);
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Ordering::Relaxed);
        (micros != 0).then_some(Duration::from_micros(micros))
    }

    pub(crate) fn set_rtt(&self, rtt: Option<Duration>) {
        let micros = rtt.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1));
        self.rtt_micros.store(micros, Ordering::Relaxed);
    }
}
