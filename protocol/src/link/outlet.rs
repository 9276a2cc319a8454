//! How the task of one stream hands its response to the agent's driver.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use super::{Close, gauges::Gauges};
use crate::{
    frame::StreamId,
    message::{Goaway, ResetCode, ResponseHead, Status},
};

/// A command of a stream's task.
pub(crate) enum Command {
    Respond(StreamId, ResponseHead),
    /// At most one per stream waits here; the next one needs the driver's permission ([`Gate`]).
    Send(StreamId, Bytes),
    Finish(StreamId),
    Reset(StreamId, ResetCode, String),
}

#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) commands: VecDeque<Command>,
    pub(crate) status: Option<Status>,
    pub(crate) goaway: Option<Goaway>,
    pub(crate) close: Option<Close>,
}

/// The queue of commands from streams and the agent to the driver.
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
