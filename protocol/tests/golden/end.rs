//! The two ends of a tunnel as their applications use them: a real multiplexer, and what its WebSocket does
//! automatically.

use std::{collections::VecDeque, time::Instant};

use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget, cost},
    frame::Frame,
    limits::{PROCESS_WINDOW_BUDGET, TUNNEL_WINDOW_BUDGET},
    message::{CloseCode, Hello},
    mux::{AgentMux, RelayEvent, RelayMux, Violation},
    testing::AnyMux,
};
use bytes::Bytes;

use crate::transcript::{Kind, Message, Side};

/// A multiplexer, and what its application does without instruction from the story.
pub(crate) trait Played: AnyMux {
    const SIDE: Side;

    fn take_events(&mut self, now: Instant);
}

/// One end, which receives and sends whole messages.
pub(crate) struct End<M> {
    pub(crate) mux: M,
    outbox: VecDeque<(Kind, Bytes)>,
}

pub(crate) type Relay = End<RelayMux>;
pub(crate) type Agent = End<AgentMux>;

impl Relay {
    pub(crate) fn accepted(now: Instant) -> Self {
        let (tunnel, process) =
            (WindowBudget::new(TUNNEL_WINDOW_BUDGET), WindowBudget::new(PROCESS_WINDOW_BUDGET));
        Self { mux: RelayMux::new(Budgets { tunnel, process }, now), outbox: VecDeque::new() }
    }

    /// Closes a tunnel that has no open stream.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        assert!(self.mux.is_drained(), "a tunnel is closed that is in use");
        let bytes = [&u16::from(code).to_be_bytes(), reason.as_bytes()].concat();
        self.outbox.push_back((Kind::Close, bytes.into()));
    }
}

impl Agent {
    pub(crate) fn dialled(hello: Hello, now: Instant) -> Self {
        Self { mux: AgentMux::new(hello, now), outbox: VecDeque::new() }
    }
}

impl<M: Played> End<M> {
    /// Lets time pass.
    ///
    /// # Errors
    /// The [`Violation`] that this side then finds in the other.
    pub(crate) fn pass(&mut self, now: Instant) -> Result<(), Violation> {
        self.mux.handle_timeout(now)?;
        self.mux.take_events(now);
        Ok(())
    }

    /// Handles a message.
    ///
    /// # Errors
    /// The [`Violation`] that this side finds in it.
    pub(crate) fn receive(&mut self, message: &Message, now: Instant) -> Result<(), Violation> {
        self.mux.handle_inbound(now);
        match message.kind {
            Kind::Frame => self.mux.handle_frame(Frame::decode(message.bytes.clone())?, now)?,
            Kind::Ping => self.outbox.push_back((Kind::Pong, message.bytes.clone())),
            Kind::Pong => self.mux.handle_pong(&message.bytes, now),
            Kind::Close => {}
        }
        self.mux.take_events(now);
        Ok(())
    }

    /// The next message that this side sends.
    pub(crate) fn transmit(&mut self, now: Instant) -> Option<Message> {
        let (kind, bytes) = if let Some(by_itself) = self.outbox.pop_front() {
            by_itself
        } else if let Some(payload) = self.mux.poll_ping(now) {
            (Kind::Ping, Bytes::copy_from_slice(&payload))
        } else {
            (Kind::Frame, self.mux.poll_transmit(now)?.encode())
        };
        Some(Message { from: M::SIDE, kind, bytes })
    }
}

impl Played for RelayMux {
    const SIDE: Side = Side::Relay;

    /// Listeners take everything at once.
    fn take_events(&mut self, now: Instant) {
        while let Some(event) = self.poll_event() {
            match event {
                RelayEvent::Data(stream, data) => self.consume(stream, cost(data.len()), now),
                RelayEvent::End(stream) | RelayEvent::Reset(stream, ..) => self.release(stream),
                RelayEvent::Hello(_)
                | RelayEvent::Status(_)
                | RelayEvent::Goaway(_)
                | RelayEvent::Response(..) => {}
            }
        }
    }
}

impl Played for AgentMux {
    const SIDE: Side = Side::Agent;

    fn take_events(&mut self, _now: Instant) {
        while self.poll_event().is_some() {}
    }
}
