//! The part that both ends of a simulated tunnel have in common: one turn after the other, in the order of the real
//! driver.

use std::time::Instant;

use super::{
    Finding,
    calls::{Calls, summary},
    tunnel::{Message, Wire},
};
use crate::{
    frame::Frame,
    limits::{DEAD_AFTER, GREETING_TIMEOUT},
    message::CloseCode,
    mux::Violation,
    testing::AnyMux,
};

/// A multiplexer and the state of its driver.
#[derive(Debug)]
pub(super) struct Driver<M> {
    pub(super) mux: M,
    began: Instant,
    last_inbound: Instant,
    /// True if the socket took everything.
    pub(super) may_send: bool,
    /// The connection is gone or closed.
    pub(super) ended: bool,
}

impl<M: AnyMux> Driver<M> {
    pub(super) fn new(mux: M, now: Instant) -> Self {
        Self { mux, began: now, last_inbound: now, may_send: true, ended: false }
    }

    pub(super) fn due(&self) -> Instant {
        self.mux.poll_timeout(self.may_send)
    }

    pub(super) fn waits_for_room(&self) -> bool {
        !self.ended && !self.may_send
    }

    /// True if the peer was given up for something that the network may have caused, and not before its time.
    fn is_right(&self, violation: &Violation, now: Instant) -> bool {
        (*violation == Violation::Silent && now >= self.last_inbound + DEAD_AFTER)
            || (*violation == Violation::NoGreeting && now >= self.began + GREETING_TIMEOUT)
    }
}

/// How a tunnel ended for one side.
#[derive(Debug)]
pub(super) enum Gone {
    Broken,
    Closed(CloseCode),
}

/// One end: its driver and its application.
pub(super) trait Side {
    type Mux: AnyMux;
    /// The name for messages.
    const NAME: &'static str;

    fn driver(&mut self) -> &mut Driver<Self::Mux>;

    /// Handles events and the passing of time.
    fn work(&mut self, calls: &mut Calls, now: Instant) -> Result<(), Finding>;

    /// A frame was sent.
    fn on_sent(&mut self, _frame: &Frame, _now: Instant) {}

    /// The peer closes the tunnel.
    fn on_close(&mut self, code: CloseCode) -> Result<(), Finding>;

    /// The code with which this side closes the tunnel now, if it does.
    fn closes(&self) -> Option<CloseCode> {
        None
    }

    /// The tunnel is gone for this side.
    fn on_end(&mut self, _calls: &mut Calls) {}

    /// Checks the rules that hold after every turn.
    fn check(&self, calls: &Calls, now: Instant) -> Result<(), Finding>;

    fn end(&mut self, calls: &mut Calls) {
        self.driver().ended = true;
        self.on_end(calls);
    }

    /// One turn.
    fn turn(&mut self, calls: &mut Calls, [from, to]: [&mut Wire; 2], now: Instant) -> Result<(), Finding> {
        let gone = self.read([from, &mut *to], now)?;
        // Frames that arrived before the end of the tunnel are handled before the end.
        self.work(calls, now)?;
        if let Some(gone) = gone {
            self.end(calls);
            return match gone {
                Gone::Broken => Ok(()),
                Gone::Closed(code) => self.on_close(code),
            };
        }
        if let Err(violation) = self.driver().mux.handle_timeout(now) {
            calls.say(now, format_args!("{} gives the tunnel up: {violation}", Self::NAME));
            to.send(Message::Reset, now);
            self.end(calls);
            let right = self.driver().is_right(&violation, now);
            return if right { Ok(()) } else { Err(Self::accuses(&violation)) };
        }
        self.work(calls, now)?;
        self.write(calls, to, now)?;
        self.work(calls, now)?;
        if let Some(code) = self.closes() {
            to.send(Message::Close(code), now);
            self.end(calls);
            return Ok(());
        }
        if self.driver().due() <= now {
            return Err(Finding::of("a loop is busy", Self::NAME));
        }
        self.check(calls, now)
    }

    /// Handles everything that has arrived. Returns how the tunnel ended, if it did.
    fn read(&mut self, [from, to]: [&mut Wire; 2], now: Instant) -> Result<Option<Gone>, Finding> {
        while let Some(message) = from.receive(now) {
            let driver = self.driver();
            driver.last_inbound = now;
            driver.mux.handle_inbound(now);
            match message {
                Message::Frame(bytes) => {
                    let frame = Frame::decode(bytes).map_err(Violation::from);
                    let taken = frame.and_then(|frame| driver.mux.handle_frame(frame, now));
                    taken.map_err(|violation| Self::accuses(&violation))?;
                }
                Message::Ping(payload) => to.send(Message::Pong(payload), now),
                Message::Pong(payload) => driver.mux.handle_pong(&payload, now),
                Message::Reset => return Ok(Some(Gone::Broken)),
                Message::Close(code) => return Ok(Some(Gone::Closed(code))),
            }
        }
        Ok(None)
    }

    fn accuses(violation: &Violation) -> Finding {
        Finding::of("an honest peer is accused", format!("by the {}: {violation}", Self::NAME))
    }

    fn write(&mut self, calls: &mut Calls, to: &mut Wire, now: Instant) -> Result<(), Finding> {
        self.driver().may_send = false;
        while to.takes_more() {
            if let Some(payload) = self.driver().mux.poll_ping(now) {
                to.send(Message::Ping(payload), now);
            } else if let Some(frame) = self.driver().mux.poll_transmit(now) {
                self.on_sent(&frame, now);
                calls.say(now, format_args!("{} sends {}", Self::NAME, summary(&frame)));
                to.send(Message::Frame(frame.encode()), now);
            } else {
                self.driver().may_send = true;
                break;
            }
        }
        if self.driver().may_send && self.driver().mux.poll_transmit(now).is_some() {
            return Err(Finding::of("there is something to send after there was nothing", Self::NAME));
        }
        Ok(())
    }
}
