//! The relay's end of a tunnel: its task carries out calls and handles incoming frames.

use std::{collections::BTreeMap, sync::Arc, task::Waker, time::Instant};

use super::{
    BodyError, CallError, Caller, Close, Counted, Ended, RelayNotice, Socket, Traffic, Transport,
    body::{Slot, SlotState},
    driver::{Endpoint, drive},
    mailbox::{Call, Mailbox},
};
use crate::{
    flow::credit::Budgets,
    frame::{Frame, StreamId},
    message::{CloseCode, ResetCode},
    mux::{OpenError, PingPayload, RelayEvent, RelayMux, Violation},
};

/// The relay's end of one tunnel, to be run by its own task.
pub struct RelayLink<N> {
    mux: RelayMux,
    mailbox: Arc<Mailbox>,
    slots: BTreeMap<StreamId, Arc<Slot>>,
    notify: N,
    leaving: Option<Close>,
    close: Option<Close>,
}

impl<N> std::fmt::Debug for RelayLink<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayLink").field("mux", &self.mux).finish_non_exhaustive()
    }
}

impl<N: FnMut(RelayNotice)> RelayLink<N> {
    /// The end of a tunnel that was just upgraded. `notify` is called with every message of the agent that belongs to
    /// no stream, and must not block.
    pub fn new(budgets: Budgets, traffic: Arc<Traffic>, notify: N) -> (Self, Caller) {
        let mailbox = Arc::new(Mailbox::default());
        #[expect(clippy::disallowed_methods, reason = "a tunnel begins now")]
        let now = tokio::time::Instant::now().into_std();
        let mux = RelayMux::new(budgets, now);
        let caller = Caller::new(Arc::clone(&mailbox), traffic);
        (Self { mux, mailbox, slots: BTreeMap::new(), notify, leaving: None, close: None }, caller)
    }

    /// Runs the tunnel to its end. Then unanswered calls fail, and running bodies are cut.
    pub fn run<S>(self, socket: Socket<Counted<S>>, traffic: Arc<Traffic>) -> impl Future<Output = Ended>
    where
        S: Transport,
    {
        // An async function would reserve room for `self` twice: one KiB for every tunnel.
        let mut link = self;
        async move { drive(&mut link, socket, traffic).await }
    }

    fn open(&mut self, call: Call, now: Instant) {
        let mut state = call.slot.lock();
        if state.abandoned {
            return;
        }
        let opened = self.mux.open(call.head, call.body, call.patience, now);
        state.stream = opened.ok();
        drop(state);
        match opened {
            Ok(stream) => {
                self.slots.insert(stream, call.slot);
            }
            Err(error) => call.slot.update(|state| state.head = Some(Err(error.into()))),
        }
    }

    fn take_mail(&mut self, now: Instant) {
        let mail = {
            let mut inbox = self.mailbox.lock();
            let close = inbox.close.take();
            self.close = self.close.take().or(close);
            std::mem::take(&mut *inbox)
        };
        for (stream, cost) in mail.consumed {
            self.mux.consume(stream, cost, now);
        }
        for stream in mail.released {
            self.slots.remove(&stream);
            self.mux.release(stream);
        }
        if let Some(welcome) = mail.welcome {
            self.mux.welcome(welcome);
        }
        for call in mail.calls {
            self.open(call, now);
        }
        if let Some(goaway) = mail.goaway {
            self.leaving = Some(Close::new(CloseCode::GoingAway, goaway.reason.clone()));
            self.mux.go_away(goaway);
        }
    }

    fn on_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Hello(hello) => (self.notify)(RelayNotice::Hello(hello)),
            RelayEvent::Status(status) => (self.notify)(RelayNotice::Status(status)),
            RelayEvent::Goaway(goaway) => {
                self.leaving.get_or_insert_with(|| Close::new(CloseCode::Normal, "goodbye"));
                (self.notify)(RelayNotice::Goaway(goaway));
            }
            RelayEvent::Response(stream, head) => self.update(stream, |state| state.head = Some(Ok(head))),
            RelayEvent::Data(stream, data) => self.update(stream, |state| {
                // A caller that is gone releases the stream, which gives the window back.
                if !state.abandoned {
                    state.chunks.push_back(data);
                }
            }),
            RelayEvent::End(stream) => self.update(stream, |state| state.end = Some(Ok(()))),
            RelayEvent::Reset(stream, code, reason) => {
                let unanswered = match code {
                    ResetCode::DeadlineExceeded => CallError::Deadline,
                    ResetCode::Refused => CallError::Refused,
                    ResetCode::Cancelled
                    | ResetCode::ReadFailed
                    | ResetCode::Stalled
                    | ResetCode::Malformed
                    | ResetCode::Other(_) => CallError::Reset(code, reason.clone()),
                };
                self.update(stream, |state| {
                    state.head.get_or_insert(Err(unanswered));
                    state.end = Some(Err(BodyError::Reset(code, reason)));
                });
            }
        }
    }

    fn update(&self, stream: StreamId, change: impl FnOnce(&mut SlotState)) {
        if let Some(slot) = self.slots.get(&stream) {
            slot.update(change);
        }
    }
}

impl<N> RelayLink<N> {
    /// Fails all calls and cuts all bodies.
    fn cut(&mut self) {
        let unopened = {
            let mut inbox = self.mailbox.lock();
            inbox.ended = true;
            std::mem::take(&mut inbox.calls)
        };
        self.mailbox.gauges.set_open_streams(0);
        for call in unopened {
            call.slot.update(|state| state.head = Some(Err(OpenError::Closed.into())));
        }
        for (_, slot) in std::mem::take(&mut self.slots) {
            slot.update(|state| {
                state.head.get_or_insert(Err(CallError::Lost));
                state.end.get_or_insert(Err(BodyError::Lost));
            });
        }
    }
}

impl<N> Drop for RelayLink<N> {
    fn drop(&mut self) {
        self.cut();
    }
}

impl<N: FnMut(RelayNotice)> Endpoint for RelayLink<N> {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        self.mux.handle_frame(frame, now)
    }

    fn handle_inbound(&mut self, now: Instant) {
        self.mux.handle_inbound(now);
    }

    fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.mux.handle_pong(payload, now);
        self.mailbox.gauges.set_rtt(self.mux.rtt());
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        self.mux.handle_timeout(now)
    }

    fn work(&mut self, now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            self.on_event(event);
        }
        self.take_mail(now);
        self.mailbox.gauges.set_open_streams(self.mux.open_streams());
        self.mailbox.gauges.set_silent(self.mux.is_silent());
    }

    fn poll_timeout(&self, may_send: bool) -> Instant {
        self.mux.poll_timeout(may_send)
    }

    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.mux.poll_ping(now)
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Frame> {
        self.mux.poll_transmit()
    }

    fn register(&self, waker: &Waker) {
        self.mailbox.waker.register(waker);
    }

    fn poll_close(&mut self) -> Option<Close> {
        if self.close.is_some() {
            return self.close.take();
        }
        // Only the relay opens streams, so only the relay knows when none can come any more.
        if self.leaving.is_some() && self.mux.is_drained() {
            return self.leaving.take();
        }
        None
    }

    fn give_up(&mut self) {
        self.cut();
    }
}
