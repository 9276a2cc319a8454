//! For tests: what both multiplexers have in common, strategies that make frames, a simulated pair with its own clock,
//! and a simulation of faults.

pub mod frames;
pub mod pair;
pub mod simulation;

use std::{sync::OnceLock, time::Instant};

use crate::{
    frame::Frame,
    mux::{AgentMux, PingPayload, RelayMux, Violation},
};

/// A fixed moment from which simulated clocks count.
pub fn start_of_time() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; what counts are differences"
    )]
    *START.get_or_init(Instant::now)
}

/// Either multiplexer, as a driver sees it, for code that treats both alike.
pub trait AnyMux {
    /// Handles one frame.
    ///
    /// # Errors
    /// [`Violation`] if the peer broke the protocol.
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation>;
    /// Bytes were received, of any kind.
    fn handle_inbound(&mut self, now: Instant);
    /// A pong was received.
    fn handle_pong(&mut self, payload: &[u8], now: Instant);
    /// Checks whether the peer is silent or dead, and gives up streams that are overdue.
    ///
    /// # Errors
    /// [`Violation`] if the tunnel must end.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation>;
    /// The latest time for the next call of [`AnyMux::handle_timeout`] and, if the socket accepts data (`may_send`), of
    /// [`AnyMux::poll_ping`].
    fn poll_timeout(&self, may_send: bool) -> Instant;
    /// The ping that is due, if any.
    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload>;
    /// The next frame to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Frame>;
    /// True if no stream is open and nothing waits to be sent.
    fn is_drained(&self) -> bool;
}

impl AnyMux for RelayMux {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        self.handle_frame(frame, now)
    }

    fn handle_inbound(&mut self, now: Instant) {
        self.handle_inbound(now);
    }

    fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.handle_pong(payload, now);
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        self.handle_timeout(now)
    }

    fn poll_timeout(&self, may_send: bool) -> Instant {
        self.poll_timeout(may_send)
    }

    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.poll_ping(now)
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Frame> {
        self.poll_transmit()
    }

    fn is_drained(&self) -> bool {
        self.is_drained()
    }
}

impl AnyMux for AgentMux {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        self.handle_frame(frame, now)
    }

    fn handle_inbound(&mut self, now: Instant) {
        self.handle_inbound(now);
    }

    fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.handle_pong(payload, now);
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        self.handle_timeout(now)
    }

    fn poll_timeout(&self, may_send: bool) -> Instant {
        self.poll_timeout(may_send)
    }

    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.poll_ping(now)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        self.poll_transmit(now)
    }

    fn is_drained(&self) -> bool {
        self.is_drained()
    }
}
