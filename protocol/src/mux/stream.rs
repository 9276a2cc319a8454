//! The states of one stream, seen from either side.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::{
    flow::{
        credit::{CreditExceeded, CreditOverflow, ReceiveWindow, SendWindow, Way},
        lanes::Lane,
    },
    limits::{PAUSE_TIMEOUT, SEND_QUEUE_LEN, SMALL_ANSWER_LEN, STALL_TIMEOUT},
};

/// The frame does not fit the state of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfOrder;

/// Why the relay did not accept a DATA frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveError {
    OutOfOrder,
    CreditExceeded,
}

/// The relay's half of a stream.
///
/// ```text
///  REQUEST ──► Awaiting ──RESPONSE──► Receiving ──END──► gone
///                 ├── ANSWER: all of these at once ─────► gone
///                 └── deadline, RESET ──┴── stall, RESET ──► gone
/// ```
#[derive(Debug)]
pub(crate) struct RequestStream {
    state: RequestState,
    window: ReceiveWindow,
    /// Credit that is granted but not sent yet.
    credit_due: u32,
}

#[derive(Debug, Clone, Copy)]
enum RequestState {
    Awaiting { deadline: Instant },
    Receiving { progress: Instant },
}

impl RequestStream {
    pub(crate) fn new(window: ReceiveWindow, deadline: Instant) -> Self {
        Self { state: RequestState::Awaiting { deadline }, window, credit_due: 0 }
    }

    pub(crate) fn respond(&mut self, now: Instant) -> Result<(), OutOfOrder> {
        match self.state {
            RequestState::Awaiting { .. } => {
                self.state = RequestState::Receiving { progress: now };
                Ok(())
            }
            RequestState::Receiving { .. } => Err(OutOfOrder),
        }
    }

    pub(crate) fn receive(&mut self, len: usize, now: Instant) -> Result<(), ReceiveError> {
        match &mut self.state {
            RequestState::Awaiting { .. } => Err(ReceiveError::OutOfOrder),
            RequestState::Receiving { progress } => {
                *progress = now;
                self.window.receive(len).map_err(|CreditExceeded| ReceiveError::CreditExceeded)
            }
        }
    }

    pub(crate) fn end(&self) -> Result<(), OutOfOrder> {
        match self.state {
            RequestState::Awaiting { .. } => Err(OutOfOrder),
            RequestState::Receiving { .. } => Ok(()),
        }
    }

    /// The consumer took chunks of this cost. Returns true if credit is now due and none was due before.
    pub(crate) fn consume(&mut self, cost: u32, now: Instant, way: Way) -> bool {
        let could_send = self.window.is_open();
        let credit = self.window.consume(cost, now, way);
        // While the agent may send nothing, progress is what the consumer takes, however little.
        if (credit.is_some() || !could_send)
            && let RequestState::Receiving { progress } = &mut self.state
        {
            *progress = now;
        }
        let Some(credit) = credit else {
            return false;
        };
        let first = self.credit_due == 0;
        self.credit_due += credit;
        first
    }

    pub(crate) fn take_credit(&mut self) -> u32 {
        std::mem::take(&mut self.credit_due)
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        matches!(self.state, RequestState::Awaiting { .. })
    }

    /// When the stream is given up if nothing happens.
    pub(crate) fn timeout(&self) -> Instant {
        match self.state {
            RequestState::Awaiting { deadline } => deadline,
            RequestState::Receiving { progress } if self.window.is_open() => progress + STALL_TIMEOUT,
            RequestState::Receiving { progress } => progress + PAUSE_TIMEOUT,
        }
    }

    /// Credit that the agent may still use.
    pub(crate) fn outstanding(&self) -> u32 {
        self.window.outstanding()
    }

    /// The part of the stream that is kept as long as its consumer holds chunks of it.
    pub(crate) fn into_window(self) -> ReceiveWindow {
        self.window
    }
}

/// The agent's half of a stream.
///
/// ```text
///  REQUEST ──► Working ──respond──► Sending ──finish──► Finishing ──queue sent, END──► gone
///                 │                           │              ├──── all at once, ANSWER ──► gone
///                 └───────── reset, RESET ────┴──────────────┴──► gone
/// ```
#[derive(Debug)]
pub(crate) struct ResponseStream {
    state: ResponseState,
    window: SendWindow,
    queue: VecDeque<Bytes>,
    queued: usize,
    sent: u64,
    /// True if the stream is in a lane.
    pub(crate) in_lane: bool,
    /// True if the writer found the queue full and waits.
    writer_waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    Working,
    Sending,
    Finishing,
}

/// The next frame of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Data(Bytes),
    End,
}

impl ResponseStream {
    pub(crate) fn new(initial_window: u32) -> Self {
        Self {
            state: ResponseState::Working,
            window: SendWindow::new(initial_window),
            queue: VecDeque::new(),
            queued: 0,
            sent: 0,
            in_lane: false,
            writer_waits: false,
        }
    }

    pub(crate) fn respond(&mut self) -> Result<(), OutOfOrder> {
        if self.state != ResponseState::Working {
            return Err(OutOfOrder);
        }
        self.state = ResponseState::Sending;
        Ok(())
    }

    /// Queues a chunk. Returns true if there is room for more.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<bool, OutOfOrder> {
        if self.state != ResponseState::Sending {
            return Err(OutOfOrder);
        }
        self.queued += chunk.len();
        if !chunk.is_empty() {
            self.queue.push_back(chunk);
        }
        self.writer_waits = self.queued >= SEND_QUEUE_LEN;
        Ok(!self.writer_waits)
    }

    pub(crate) fn finish(&mut self) -> Result<(), OutOfOrder> {
        if self.state != ResponseState::Sending {
            return Err(OutOfOrder);
        }
        self.state = ResponseState::Finishing;
        Ok(())
    }

    pub(crate) fn grant(&mut self, bytes: u32) -> Result<(), CreditOverflow> {
        self.window.grant(bytes)
    }

    /// True if a frame could be sent now.
    pub(crate) fn is_ready(&self) -> bool {
        if self.queue.is_empty() {
            return self.state == ResponseState::Finishing;
        }
        self.window.sendable() > 0
    }

    pub(crate) fn lane(&self) -> Lane {
        if self.sent < SMALL_ANSWER_LEN { Lane::Small } else { Lane::Bulk }
    }

    /// The content of the next frame, of at most `max` bytes. Call this only if the stream is ready.
    pub(crate) fn next(&mut self, max: usize) -> Option<Next> {
        let Some(chunk) = self.queue.front_mut() else {
            return (self.state == ResponseState::Finishing).then_some(Next::End);
        };
        let len = self.window.sendable().min(chunk.len()).min(max);
        if len == 0 {
            return None;
        }
        let data = chunk.split_to(len);
        if chunk.is_empty() {
            self.queue.pop_front();
        }
        self.window.spend(len);
        self.queued -= len;
        self.sent += len as u64;
        Some(Next::Data(data))
    }

    /// The whole body, if it is complete, may be sent, and has at most `longest` bytes. The stream is over then.
    pub(crate) fn take_whole(&mut self, longest: usize) -> Option<Bytes> {
        let fits = self.queue.len() <= 1 && self.queued <= longest.min(self.window.sendable());
        if self.state != ResponseState::Finishing || self.sent > 0 || !fits {
            return None;
        }
        let body = self.queue.pop_front().unwrap_or_default();
        if !body.is_empty() {
            self.window.spend(body.len());
        }
        self.queued = 0;
        Some(body)
    }

    /// True if a waiting writer should be woken: once, when half the queue is free.
    pub(crate) fn wakes_writer(&mut self) -> bool {
        let wakes = self.writer_waits && self.queued <= SEND_QUEUE_LEN / 2;
        if wakes {
            self.writer_waits = false;
        }
        wakes
    }
}
