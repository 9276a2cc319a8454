//! What the two multiplexers have in common, for what treats both alike.

use std::time::Instant;

use crate::{
    frame::Frame,
    mux::{AgentMux, PingPayload, RelayMux, Violation},
};

/// Either multiplexer, as a driver sees it.
pub trait AnyMux {
    /// Takes one frame in.
    ///
    /// # Errors
    /// [`Violation`] when the peer broke the protocol.
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation>;
    /// Octets came in, whatever they were.
    fn handle_inbound(&mut self, now: Instant);
    /// A pong came in.
    fn handle_pong(&mut self, payload: &[u8], now: Instant);
    /// Judges the peer, and gives up what is overdue.
    ///
    /// # Errors
    /// [`Violation`] when the tunnel must end.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation>;
    /// When to call that, and where it `may_send` [`AnyMux::poll_ping`], at the latest.
    fn poll_timeout(&self, may_send: bool) -> Instant;
    /// The ping that is due, if one is.
    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload>;
    /// The next frame to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<Frame>;
    /// Whether nothing is open and nothing waits to be sent.
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
