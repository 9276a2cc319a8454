//! The agent's end of a tunnel: accepts streams and sends their bodies, small answers first.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::Violation;
use crate::{
    flow::{lanes::Lanes, pace::Pace},
    frame::{Frame, StreamId},
    limits::{ANSWER_BODY_LEN, GREETING_TIMEOUT, INITIAL_WINDOW},
    message::{Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
    mux::{
        keepalive::{KeepAlive, PingPayload},
        stream::{Next, ResponseStream},
    },
};

/// An event that the agent's application should handle.
#[derive(Debug, PartialEq, Eq)]
pub enum AgentEvent {
    /// The relay accepted the agent.
    Welcome(Box<Welcome>),
    /// The relay is about to leave: dial again within the window, and finish the open streams of this tunnel.
    Goaway(Goaway),
    /// A request, to be answered with [`AgentMux::respond`].
    Request(StreamId, Box<RequestHead>, Bytes),
    /// The stream's queue has room again.
    Writable(StreamId),
    /// The relay gave the stream up: stop working for it.
    Reset(StreamId, ResetCode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// WELCOME must be received before this time.
    AwaitingWelcome(Instant),
    Open {
        initial_window: u32,
    },
}

/// The pure state of the agent's end of one tunnel. [The module](super) says in which order its methods are called.
#[derive(Debug)]
pub struct AgentMux {
    phase: Phase,
    leaving: bool,
    max_streams: usize,
    last: Option<StreamId>,
    streams: BTreeMap<StreamId, ResponseStream>,
    /// HELLO, GOAWAY, and at most one RESPONSE and one RESET per stream.
    control: VecDeque<Frame>,
    /// Number of RESETs in `control`: their streams count as open until the relay can know of the RESET.
    resets_queued: usize,
    /// Refused streams whose RESET waits to be sent; they are limited like open streams.
    refused: VecDeque<StreamId>,
    status: Option<Status>,
    lanes: Lanes,
    pace: Pace,
    life: KeepAlive,
    events: VecDeque<AgentEvent>,
}

impl AgentMux {
    /// The state of a tunnel that was just dialled; HELLO is the first frame to be sent.
    pub fn new(hello: Hello, now: Instant) -> Self {
        Self {
            phase: Phase::AwaitingWelcome(now + GREETING_TIMEOUT),
            leaving: false,
            max_streams: usize::try_from(hello.max_streams).unwrap_or(usize::MAX),
            last: None,
            streams: BTreeMap::new(),
            control: VecDeque::from([Frame::Hello(Box::new(hello))]),
            resets_queued: 0,
            refused: VecDeque::new(),
            status: None,
            lanes: Lanes::default(),
            pace: Pace::default(),
            life: KeepAlive::new(now),
            events: VecDeque::new(),
        }
    }

    /// Sends the head of a response; its body follows. Does nothing if the stream is gone.
    pub fn respond(&mut self, stream: StreamId, head: ResponseHead) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if open.respond().is_ok() {
            self.control.push_back(Frame::Response(stream, Box::new(head)));
        }
    }

    /// Queues a piece of body. Returns true if there is room for more. If not, wait for [`AgentEvent::Writable`] or
    /// [`AgentEvent::Reset`]. Returns `false` also if the stream is gone.
    pub fn send(&mut self, stream: StreamId, chunk: Bytes) -> bool {
        let Some(open) = self.streams.get_mut(&stream) else {
            return false;
        };
        let room = open.push(chunk).unwrap_or(false);
        self.schedule(stream);
        room
    }

    /// The body is complete; END follows the last piece.
    pub fn finish(&mut self, stream: StreamId) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if open.finish().is_ok() {
            self.schedule(stream);
        }
    }

    /// Gives a stream up. Data that is still queued is not sent.
    pub fn reset(&mut self, stream: StreamId, code: ResetCode, reason: &str) {
        if self.forget(stream) {
            self.control.push_back(Frame::Reset(stream, code, reason.to_owned()));
            self.resets_queued += 1;
        }
    }

    /// Reports the state of the recordings to the relay. A status that was not sent yet is replaced.
    pub fn set_status(&mut self, status: Status) {
        self.status = Some(status);
    }

    /// Announces that this agent will go away. Open streams may finish, new requests are refused.
    pub fn go_away(&mut self, goaway: Goaway) {
        if !self.leaving {
            self.leaving = true;
            self.control.push_back(Frame::Goaway(goaway));
        }
    }

    /// Handles one frame. The events that follow from it come from [`AgentMux::poll_event`].
    ///
    /// # Errors
    /// [`Violation`] if the relay broke the protocol; the tunnel must end.
    pub fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        let initial_window = match (self.phase, &frame) {
            (_, Frame::Unknown(_)) => return Ok(()),
            (Phase::AwaitingWelcome(_), Frame::Welcome(_)) => INITIAL_WINDOW,
            (Phase::AwaitingWelcome(_), _) => return Err(Violation::NotGreeted(frame.name())),
            (Phase::Open { .. }, Frame::Welcome(_)) => return Err(Violation::GreetedTwice),
            (Phase::Open { initial_window }, _) => initial_window,
        };
        match frame {
            Frame::Welcome(welcome) => {
                self.phase = Phase::Open { initial_window: welcome.initial_window };
                self.events.push_back(AgentEvent::Welcome(welcome));
                Ok(())
            }
            Frame::Goaway(goaway) => {
                self.events.push_back(AgentEvent::Goaway(goaway));
                Ok(())
            }
            Frame::Request(stream, head, body) => {
                self.life.on_busy(now);
                self.accept(stream, initial_window)?;
                if self.streams.contains_key(&stream) {
                    self.events.push_back(AgentEvent::Request(stream, head, body));
                }
                Ok(())
            }
            Frame::Reset(stream, code, _) => {
                self.check_opened("RESET", stream)?;
                if self.forget(stream) {
                    self.events.push_back(AgentEvent::Reset(stream, code));
                } else {
                    self.keep_quiet(stream);
                }
                Ok(())
            }
            Frame::Credit(stream, bytes) => self.on_credit(stream, bytes),
            Frame::Unknown(_) => Ok(()),
            Frame::Hello(_)
            | Frame::Status(_)
            | Frame::Response(..)
            | Frame::Data(..)
            | Frame::End(_)
            | Frame::Answer(..) => Err(Violation::WrongDirection(frame.name())),
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

    /// Checks at `now` whether the greeting is overdue or the peer is silent or dead.
    ///
    /// # Errors
    /// [`Violation::NoGreeting`] or [`Violation::Silent`]: the tunnel must end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        if matches!(self.phase, Phase::AwaitingWelcome(until) if now >= until) {
            return Err(Violation::NoGreeting);
        }
        if self.life.is_dead(now) {
            return Err(Violation::Silent);
        }
        if !self.streams.is_empty() {
            self.life.on_busy(now);
        }
        self.life.handle_timeout(now);
        Ok(())
    }

    /// The latest time for the next call of [`AgentMux::handle_timeout`] and, if the socket accepts data (`may_send`),
    /// of [`AgentMux::poll_ping`].
    pub fn poll_timeout(&self, may_send: bool) -> Instant {
        let at = self.life.next_timeout(may_send);
        match self.phase {
            Phase::AwaitingWelcome(until) => until.min(at),
            Phase::Open { .. } => at,
        }
    }

    /// The ping that is due, if any.
    pub fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.life.poll_ping(now)
    }

    /// How many bytes may be handed to the socket before it must have passed them on: few on a slow uplink.
    pub fn burst(&self) -> usize {
        self.pace.burst()
    }

    /// How many bytes may wait unsent in the kernel: few, but enough for TCP to keep a long path full.
    pub fn unsent(&self) -> usize {
        self.pace.unsent(self.life.min_rtt().unwrap_or_default())
    }

    /// The next frame to send. Control frames come first, with small answers that are complete; then other small
    /// answers; then bulk streams in turns.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        if let Some(frame) = self.control.pop_front() {
            self.resets_queued -= usize::from(matches!(frame, Frame::Reset(..)));
            return Some(self.with_whole_body(frame, now));
        }
        if let Some(stream) = self.refused.pop_front() {
            return Some(Frame::Reset(stream, ResetCode::Refused, "the agent is shutting down".to_owned()));
        }
        // STATUS waits for WELCOME, which proves that the relay knows this agent.
        if matches!(self.phase, Phase::Open { .. })
            && let Some(status) = self.status.take()
        {
            return Some(Frame::Status(status));
        }
        while let Some(stream) = self.lanes.pop() {
            let Some(open) = self.streams.get_mut(&stream) else {
                continue;
            };
            open.in_lane = false;
            match open.next(self.pace.burst()) {
                Some(Next::Data(data)) => {
                    self.pace.on_sent(data.len(), now);
                    if open.wakes_writer() {
                        self.events.push_back(AgentEvent::Writable(stream));
                    }
                    self.schedule(stream);
                    return Some(Frame::Data(stream, data));
                }
                Some(Next::End) => {
                    self.forget(stream);
                    return Some(Frame::End(stream));
                }
                None => {}
            }
        }
        self.pace.on_starved();
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    /// Number of open streams.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// True if no stream is open and nothing waits to be sent.
    pub fn is_drained(&self) -> bool {
        self.streams.is_empty() && self.control.is_empty() && self.refused.is_empty()
    }

    /// True if something should have been received from the relay by now: see [`crate::limits::SILENT_AFTER`].
    pub fn is_silent(&self) -> bool {
        self.life.is_silent()
    }

    /// The latest round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.life.rtt()
    }

    fn accept(&mut self, stream: StreamId, initial_window: u32) -> Result<(), Violation> {
        if self.last.is_some_and(|last| stream <= last) {
            return Err(Violation::Reused(stream));
        }
        self.last = Some(stream);
        // The relay counts a stream as open until it receives the end of the stream, which is later than here. So a
        // relay that keeps to the limit can never exceed it here.
        if self.streams.len() + self.resets_queued + self.refused.len() >= self.max_streams {
            return Err(Violation::TooManyStreams(stream));
        }
        if self.leaving {
            self.refused.push_back(stream);
        } else {
            self.streams.insert(stream, ResponseStream::new(initial_window));
        }
        Ok(())
    }

    /// The relay gave up a stream that this side was about to give up. It does not wait for a RESET, and the stream no
    /// longer counts.
    fn keep_quiet(&mut self, stream: StreamId) {
        self.control.retain(|frame| !matches!(frame, Frame::Reset(id, ..) if *id == stream));
        self.resets_queued = self.control.iter().filter(|frame| matches!(frame, Frame::Reset(..))).count();
        self.refused.retain(|refused| *refused != stream);
    }

    fn on_credit(&mut self, stream: StreamId, bytes: u32) -> Result<(), Violation> {
        self.check_opened("CREDIT", stream)?;
        // Credit for a stream that has ended was in flight and is no longer needed.
        let Some(open) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        open.grant(bytes).map_err(|_| Violation::CreditOverflow(stream))?;
        self.schedule(stream);
        Ok(())
    }

    fn check_opened(&self, frame: &'static str, stream: StreamId) -> Result<(), Violation> {
        if self.last.is_none_or(|last| stream > last) {
            return Err(Violation::NeverOpened(frame, stream));
        }
        Ok(())
    }

    /// Turns a RESPONSE into an ANSWER if its whole body is queued and small, unless it is bulk's turn.
    fn with_whole_body(&mut self, frame: Frame, now: Instant) -> Frame {
        let Frame::Response(stream, head) = frame else { return frame };
        let longest = ANSWER_BODY_LEN.min(self.pace.burst());
        let open = self.streams.get_mut(&stream).filter(|_| !self.lanes.owes_bulk());
        let Some(body) = open.and_then(|open| open.take_whole(longest)) else {
            return Frame::Response(stream, head);
        };
        self.forget(stream);
        self.lanes.small_went();
        self.pace.on_sent(body.len(), now);
        Frame::Answer(stream, head, body)
    }

    fn schedule(&mut self, stream: StreamId) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if !open.in_lane && open.is_ready() {
            open.in_lane = true;
            self.lanes.push(stream, open.lane());
        }
    }

    fn forget(&mut self, stream: StreamId) -> bool {
        let Some(gone) = self.streams.remove(&stream) else {
            return false;
        };
        if gone.in_lane {
            self.lanes.remove(stream);
        }
        // A RESPONSE that was not sent yet must not follow the RESET of its stream.
        self.control.retain(|frame| !matches!(frame, Frame::Response(id, _) if *id == stream));
        true
    }
}
