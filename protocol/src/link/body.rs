//! The body of a response that comes through a tunnel.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::mailbox::Mailbox;
use crate::{
    flow::credit::cost,
    frame::StreamId,
    link::CallError,
    message::{ResetCode, ResponseHead},
};

/// Consumed credit is reported in pieces of at least this many bytes, or when nothing is left to read. Waking the
/// driver for every chunk would cost more than the chunk.
const REPORT_COST: u32 = 64 * 1024;
/// ...or when the last report is this old. While the agent may send nothing, what the client takes, however little, is
/// the only progress (see [`crate::limits::PAUSE_TIMEOUT`]).
const REPORT_AFTER: Duration = Duration::from_secs(60);

/// Why a body was cut. The bytes before the cut are right, but not complete.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The agent gave the stream up, or the stream made no progress.
    #[error("the agent reset the response: {1} ({code})", code = u16::from(*.0))]
    Reset(ResetCode, String),
    /// The tunnel ended.
    #[error("the tunnel ended before the response was complete")]
    Lost,
    /// The body is not what was sent. A link itself never reports this; a later stage that passes the body on may.
    #[error("the response was changed in transit")]
    Changed,
}

/// State of one stream, shared by the driver and one caller. The queue is limited by the stream's window.
#[derive(Debug, Default)]
pub(crate) struct Slot(Mutex<SlotState>);

#[derive(Debug, Default)]
pub(crate) struct SlotState {
    /// Set once the stream is open.
    pub(crate) stream: Option<StreamId>,
    /// Set once, when the response head or an error is known.
    pub(crate) head: Option<Result<Box<ResponseHead>, CallError>>,
    pub(crate) chunks: VecDeque<Bytes>,
    pub(crate) end: Option<Result<(), BodyError>>,
    /// The caller is gone.
    pub(crate) abandoned: bool,
    waker: Option<Waker>,
}

impl Slot {
    pub(crate) fn lock(&self) -> MutexGuard<'_, SlotState> {
        // Nothing panics while it holds the lock; if something did, the state would still be valid.
        self.0.lock()
    }

    /// Changes the state and wakes the caller.
    pub(crate) fn update(&self, change: impl FnOnce(&mut SlotState)) {
        let mut state = self.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the response head.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Box<ResponseHead>, CallError>> {
        let mut state = self.lock();
        if let Some(head) = state.head.take() {
            return Poll::Ready(head);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One caller's hold on a stream. Dropping it gives up the stream and releases its window.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) slot: Arc<Slot>,
    pub(crate) mailbox: Arc<Mailbox>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let stream = {
            let mut state = self.slot.lock();
            state.abandoned = true;
            state.chunks.clear();
            state.stream
        };
        if let Some(stream) = stream {
            self.mailbox.release(stream);
        }
    }
}

/// The body of a response that comes through a tunnel.
///
/// Bytes that are taken from it are returned to the agent as credit. Dropping it early stops the agent.
#[derive(Debug)]
pub struct TunnelBody {
    hold: Hold,
    stream: StreamId,
    unreported: u32,
    reported: Instant,
    size: SizeHint,
    done: bool,
}

#[expect(clippy::disallowed_methods, reason = "a listener's patience is measured where he listens")]
fn clock() -> Instant {
    Instant::now()
}

impl TunnelBody {
    pub(crate) fn new(hold: Hold, stream: StreamId, size: Option<u64>) -> Self {
        let size = size.map_or_else(SizeHint::default, SizeHint::with_exact);
        Self { hold, stream, unreported: 0, reported: clock(), size, done: false }
    }

    fn report(&mut self, least: u32) {
        if self.unreported > least {
            self.reported = clock();
            self.hold.mailbox.consume(self.stream, std::mem::take(&mut self.unreported));
        }
    }
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        let slot = Arc::clone(&self.hold.slot);
        let mut state = slot.lock();
        if let Some(chunk) = state.chunks.pop_front() {
            drop(state);
            self.unreported += cost(chunk.len());
            let late = self.reported.elapsed() >= REPORT_AFTER;
            self.report(if late { 0 } else { REPORT_COST });
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(end) = state.end.clone() {
            drop(state);
            self.done = true;
            return Poll::Ready(end.err().map(Err));
        }
        state.waker = Some(cx.waker().clone());
        drop(state);
        self.report(0);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
