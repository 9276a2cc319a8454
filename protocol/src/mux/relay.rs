//! The relay's end of a tunnel: opens streams, receives their bodies, returns credit.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::Violation;
use crate::{
    flow::credit::{Budgets, ReceiveWindow, Way},
    frame::{Frame, StreamId},
    limits::{GREETING_TIMEOUT, MAX_STREAMS, SHARED_FOR, STALL_TIMEOUT},
    message::{Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
    mux::{
        keepalive::{KeepAlive, PingPayload},
        stream::{ReceiveError, RequestStream},
    },
};

/// An event that the relay's application should handle.
#[derive(Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// The agent introduced itself; answer with [`RelayMux::welcome`].
    Hello(Box<Hello>),
    /// The agent reported the state of its recordings.
    Status(Status),
    /// The agent is about to leave; no more streams can be opened.
    Goaway(Goaway),
    /// The head of a response was received.
    Response(StreamId, Box<ResponseHead>),
    /// A piece of body. When it has been taken, report its cost with [`RelayMux::consume`].
    Data(StreamId, Bytes),
    /// The body is complete.
    End(StreamId),
    /// The stream was given up, by the agent or by this side because a deadline passed or nothing progressed.
    Reset(StreamId, ResetCode, String),
}

/// Why no stream was opened. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The agent has not introduced itself or is leaving, or the stream ids are used up.
    #[error("the tunnel does not accept new requests")]
    Closed,
    /// As many streams are open as the agent allows.
    #[error("the agent has reached its limit of requests")]
    TooManyStreams,
    /// The window budget of the tunnel or of the process is used up.
    #[error("the relay has no memory left for another download")]
    NoBudget,
}

/// What may still arrive on streams that this side gave up: no more than was in flight at that moment.
#[derive(Debug, Default)]
struct Late {
    credit: u64,
    frames: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// HELLO must be received before this time.
    AwaitingHello(Instant),
    Open,
    /// A GOAWAY was sent or received: open streams may finish.
    Leaving,
}

/// The pure state of the relay's end of one tunnel. [The module](super) says in which order its methods are called.
#[derive(Debug)]
pub struct RelayMux {
    phase: Phase,
    budgets: Budgets,
    agent_max: usize,
    next: Option<StreamId>,
    /// The last stream whose REQUEST was sent: the agent knows no later one.
    asked: Option<StreamId>,
    streams: BTreeMap<StreamId, RequestStream>,
    /// Windows of streams that have ended while their consumer still holds chunks.
    ended: BTreeMap<StreamId, ReceiveWindow>,
    late: Late,
    /// At most one REQUEST or RESET per stream slot, and a few tunnel frames.
    control: VecDeque<Frame>,
    resets_queued: usize,
    credits: VecDeque<StreamId>,
    /// The tunnel counts as shared until this time: a request came while others were open.
    shared_until: Option<Instant>,
    life: KeepAlive,
    events: VecDeque<RelayEvent>,
    /// No stream times out before this time.
    check_at: Option<Instant>,
}

impl RelayMux {
    /// The state of a tunnel that was just accepted.
    pub fn new(budgets: Budgets, now: Instant) -> Self {
        Self {
            phase: Phase::AwaitingHello(now + GREETING_TIMEOUT),
            budgets,
            agent_max: 0,
            next: Some(StreamId::FIRST),
            asked: None,
            streams: BTreeMap::new(),
            ended: BTreeMap::new(),
            late: Late::default(),
            control: VecDeque::new(),
            resets_queued: 0,
            credits: VecDeque::new(),
            shared_until: None,
            life: KeepAlive::new(now),
            events: VecDeque::new(),
            check_at: None,
        }
    }

    /// Answers HELLO.
    pub fn welcome(&mut self, welcome: Welcome) {
        self.control.push_back(Frame::Welcome(Box::new(welcome)));
    }

    /// Opens a stream with a whole request. The head of the response must arrive within `patience`.
    ///
    /// # Errors
    /// [`OpenError`]; then nothing was sent.
    pub fn open(
        &mut self,
        head: RequestHead,
        body: Bytes,
        patience: Duration,
        now: Instant,
    ) -> Result<StreamId, OpenError> {
        let (Phase::Open, Some(stream)) = (self.phase, self.next) else {
            return Err(OpenError::Closed);
        };
        if self.streams.len() + self.resets_queued >= self.agent_max {
            return Err(OpenError::TooManyStreams);
        }
        let window = ReceiveWindow::open(&self.budgets, now).ok_or(OpenError::NoBudget)?;
        self.next = stream.next();
        if !self.streams.is_empty() {
            self.shared_until = Some(now + SHARED_FOR);
        }
        self.streams.insert(stream, RequestStream::new(window, now + patience));
        self.control.push_back(Frame::Request(stream, Box::new(head), body));
        self.life.on_busy(now);
        self.check_by(now + patience);
        Ok(stream)
    }

    /// The consumer of the body took chunks of this [`crate::flow::credit::cost`].
    pub fn consume(&mut self, stream: StreamId, cost: u32, now: Instant) {
        let shared = self.shared_until.is_some_and(|until| now < until);
        let way = Way { min_rtt: self.life.min_rtt().unwrap_or_default(), shared };
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if open.consume(cost, now, way) {
            self.credits.push_back(stream);
            self.check_by(now + STALL_TIMEOUT);
        }
    }

    /// The consumer of the body is gone, or has all that it wanted. To be called once for every stream that was opened.
    pub fn release(&mut self, stream: StreamId) {
        self.abandon(stream, ResetCode::Cancelled, "the client went away");
        self.ended.remove(&stream);
    }

    /// Announces that this relay will go away. Open streams may finish.
    pub fn go_away(&mut self, goaway: Goaway) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving;
            self.control.push_back(Frame::Goaway(goaway));
        }
    }

    /// Handles one frame. The events that follow from it come from [`RelayMux::poll_event`].
    ///
    /// # Errors
    /// [`Violation`] if the agent broke the protocol; the tunnel must end.
    pub fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match (self.phase, &frame) {
            (_, Frame::Unknown(_)) | (Phase::AwaitingHello(_), Frame::Hello(_)) => {}
            (Phase::AwaitingHello(_), _) => return Err(Violation::NotGreeted(frame.name())),
            (Phase::Open | Phase::Leaving, Frame::Hello(_)) => return Err(Violation::GreetedTwice),
            (Phase::Open | Phase::Leaving, _) => {}
        }
        match frame {
            Frame::Hello(hello) => {
                self.agent_max = usize::try_from(hello.max_streams).unwrap_or(usize::MAX).min(MAX_STREAMS);
                self.phase = Phase::Open;
                self.events.push_back(RelayEvent::Hello(hello));
                Ok(())
            }
            Frame::Goaway(goaway) => {
                self.phase = Phase::Leaving;
                self.events.push_back(RelayEvent::Goaway(goaway));
                Ok(())
            }
            Frame::Status(status) => {
                self.events.push_back(RelayEvent::Status(status));
                Ok(())
            }
            Frame::Response(stream, head) => self.on_response(stream, head, now),
            Frame::Data(stream, data) => self.on_data(stream, data, now),
            Frame::End(stream) => self.on_end(stream),
            Frame::Reset(stream, code, reason) => self.on_reset(stream, code, reason),
            Frame::Answer(stream, head, body) => self.on_answer(stream, head, body, now),
            Frame::Unknown(_) => Ok(()),
            Frame::Welcome(_) | Frame::Request(..) | Frame::Credit(..) => {
                Err(Violation::WrongDirection(frame.name()))
            }
        }
    }

    /// Bytes were received, of any kind.
    pub fn handle_inbound(&mut self, now: Instant) {
        self.life.on_inbound(now);
    }

    /// A pong was received.
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.life.on_pong(payload, now);
    }

    /// Gives up streams that are overdue at `now`.
    ///
    /// # Errors
    /// [`Violation::NoGreeting`] or [`Violation::Silent`]: the tunnel must end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        if matches!(self.phase, Phase::AwaitingHello(until) if now >= until) {
            return Err(Violation::NoGreeting);
        }
        if self.life.is_dead(now) {
            return Err(Violation::Silent);
        }
        if !self.streams.is_empty() {
            self.life.on_busy(now);
        }
        self.life.handle_timeout(now);
        if self.check_at.is_some_and(|at| now >= at) {
            self.give_up_overdue(now);
        }
        Ok(())
    }

    /// The latest time for the next call of [`RelayMux::handle_timeout`] and, if the socket accepts data (`may_send`),
    /// of [`RelayMux::poll_ping`].
    pub fn poll_timeout(&self, may_send: bool) -> Instant {
        let mut at = self.life.next_timeout(may_send);
        if let Phase::AwaitingHello(until) = self.phase {
            at = at.min(until);
        }
        self.check_at.map_or(at, |check| at.min(check))
    }

    /// The ping that is due, if any.
    pub fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.life.poll_ping(now)
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Frame> {
        while let Some(stream) = self.credits.pop_front() {
            // A stream that has ended in the meantime needs no credit.
            let credit = self.streams.get_mut(&stream).map_or(0, RequestStream::take_credit);
            if credit > 0 {
                return Some(Frame::Credit(stream, credit));
            }
        }
        let frame = self.control.pop_front()?;
        if let Frame::Request(stream, ..) = frame {
            self.asked = Some(stream);
        }
        self.resets_queued -= usize::from(matches!(frame, Frame::Reset(..)));
        Some(frame)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// Number of open streams.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// True if no stream is open and nothing waits to be sent.
    pub fn is_drained(&self) -> bool {
        self.streams.is_empty() && self.control.is_empty()
    }

    /// True if something should have been received from the agent by now: see [`crate::limits::SILENT_AFTER`].
    pub fn is_silent(&self) -> bool {
        self.life.is_silent()
    }

    /// The latest round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.life.rtt()
    }

    /// Checks that the agent can know this stream. An agent that could answer requests that were never sent would not
    /// have to read, and requests would pile up here.
    fn check_asked(&self, frame: &'static str, stream: StreamId) -> Result<(), Violation> {
        if self.asked.is_none_or(|asked| stream > asked) {
            return Err(Violation::NeverOpened(frame, stream));
        }
        Ok(())
    }

    fn check_by(&mut self, at: Instant) {
        self.check_at = Some(self.check_at.map_or(at, |check| check.min(at)));
    }

    fn give_up_overdue(&mut self, now: Instant) {
        let overdue = self.streams.iter().filter(|(_, open)| now >= open.timeout());
        let overdue: Vec<_> = overdue.map(|(stream, open)| (*stream, open.is_awaiting())).collect();
        for (stream, awaiting) in overdue {
            let (code, reason) = if awaiting {
                (ResetCode::DeadlineExceeded, "no answer came in time")
            } else {
                (ResetCode::Stalled, "no progress was made for too long")
            };
            self.abandon(stream, code, reason);
            self.events.push_back(RelayEvent::Reset(stream, code, reason.to_owned()));
        }
        self.check_at = self.streams.values().map(RequestStream::timeout).min();
    }

    /// Gives a stream up from this side.
    fn abandon(&mut self, stream: StreamId, code: ResetCode, reason: &str) {
        let Some(open) = self.streams.remove(&stream) else {
            return;
        };
        let unsent =
            self.control.iter().position(|frame| matches!(frame, Frame::Request(id, ..) if *id == stream));
        if let Some(at) = unsent {
            self.control.remove(at);
        } else {
            self.late.credit += u64::from(open.outstanding());
            self.late.frames += 1 + u64::from(open.is_awaiting());
            self.control.push_back(Frame::Reset(stream, code, reason.to_owned()));
            self.resets_queued += 1;
        }
        self.ended.insert(stream, open.into_window());
    }

    fn on_response(
        &mut self,
        stream: StreamId,
        head: Box<ResponseHead>,
        now: Instant,
    ) -> Result<(), Violation> {
        self.check_asked("RESPONSE", stream)?;
        let Some(open) = self.streams.get_mut(&stream) else {
            return self.on_late("RESPONSE", stream, 0);
        };
        open.respond(now).map_err(|_| Violation::OutOfOrder("RESPONSE", stream))?;
        let timeout = open.timeout();
        self.check_by(timeout);
        self.events.push_back(RelayEvent::Response(stream, head));
        Ok(())
    }

    fn on_data(&mut self, stream: StreamId, data: Bytes, now: Instant) -> Result<(), Violation> {
        let Some(open) = self.streams.get_mut(&stream) else {
            return self.on_late("DATA", stream, data.len());
        };
        open.receive(data.len(), now).map_err(|error| match error {
            ReceiveError::OutOfOrder => Violation::OutOfOrder("DATA", stream),
            ReceiveError::CreditExceeded => Violation::CreditExceeded(stream),
        })?;
        self.events.push_back(RelayEvent::Data(stream, data));
        Ok(())
    }

    fn on_end(&mut self, stream: StreamId) -> Result<(), Violation> {
        let Some(open) = self.streams.get(&stream) else {
            return self.on_late("END", stream, 0);
        };
        open.end().map_err(|_| Violation::OutOfOrder("END", stream))?;
        self.retire(stream);
        self.events.push_back(RelayEvent::End(stream));
        Ok(())
    }

    /// Handles an ANSWER as the three frames that it replaces, one after the other.
    fn on_answer(
        &mut self,
        stream: StreamId,
        head: Box<ResponseHead>,
        body: Bytes,
        now: Instant,
    ) -> Result<(), Violation> {
        self.on_response(stream, head, now)?;
        if !body.is_empty() {
            self.on_data(stream, body, now)?;
        }
        self.on_end(stream)
    }

    fn on_reset(&mut self, stream: StreamId, code: ResetCode, reason: String) -> Result<(), Violation> {
        self.check_asked("RESET", stream)?;
        if !self.streams.contains_key(&stream) {
            return self.on_late("RESET", stream, 0);
        }
        self.retire(stream);
        self.events.push_back(RelayEvent::Reset(stream, code, reason));
        Ok(())
    }

    fn retire(&mut self, stream: StreamId) {
        if let Some(open) = self.streams.remove(&stream) {
            self.ended.insert(stream, open.into_window());
        }
    }

    /// Handles a frame for a stream that is not open. Either it was in flight when this side gave the stream up, or it
    /// is a violation.
    fn on_late(&mut self, frame: &'static str, stream: StreamId, len: usize) -> Result<(), Violation> {
        self.check_asked(frame, stream)?;
        let (left, cost) = if frame == "DATA" {
            (&mut self.late.credit, u64::from(crate::flow::credit::cost(len)))
        } else {
            (&mut self.late.frames, 1)
        };
        *left = left.checked_sub(cost).ok_or(Violation::OutOfOrder(frame, stream))?;
        Ok(())
    }
}
