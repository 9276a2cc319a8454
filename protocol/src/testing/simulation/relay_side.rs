//! The relay of the simulation: its end of a tunnel with the listeners, and its public side, which decides which tunnel
//! gets a call, and which one gets its retry.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Finding, World,
    calls::{CallPlan, Calls, Outcome, mark},
    side::{Driver, Side},
    tunnel::Tunnel,
};
use crate::{
    flow::credit::{Budgets, WindowBudget, cost},
    frame::{Frame, StreamId},
    limits::{INITIAL_WINDOW, MAX_WINDOW, MIN_DATA_COST, PAUSE_TIMEOUT, STALL_TIMEOUT, TUNNEL_WINDOW_BUDGET},
    message::{CloseCode, Goaway, ResetCode},
    mux::{RelayEvent, RelayMux},
    testing::pair::{body, request, welcome},
};

/// How long a call that was cut in its body waits for another tunnel, as in the relay.
const RETURN_WINDOW: Duration = Duration::from_secs(60);

/// One call, as its listener sees it.
#[derive(Debug)]
struct Listener {
    call: usize,
    opened: Instant,
    /// How long the response may take.
    patience: Duration,
    received: u64,
    answered: bool,
    /// When something was last received.
    came: Instant,
    /// When credit was last sent to the agent.
    granted_at: Instant,
    /// When the listener last took something.
    took: Instant,
    /// Credit that was sent, and how much of it was used.
    granted: u64,
    spent: u64,
    held: VecDeque<u32>,
    over: bool,
}

#[derive(Debug)]
pub(super) struct RelaySide {
    pub(super) driver: Driver<RelayMux>,
    pub(super) budgets: Budgets,
    greeted: bool,
    /// The agent has greeted, and this was not noticed yet.
    greets: bool,
    leaving: bool,
    /// Another tunnel of the agent has replaced this one.
    replaced: bool,
    was_silent: bool,
    listeners: BTreeMap<StreamId, Listener>,
    /// Until this time, stalls may be caused by the network.
    pub(super) excused_until: Instant,
}

impl RelaySide {
    pub(super) fn new(process: &std::sync::Arc<WindowBudget>, now: Instant) -> Self {
        let budgets = Budgets {
            tunnel: WindowBudget::new(TUNNEL_WINDOW_BUDGET),
            process: std::sync::Arc::clone(process),
        };
        Self {
            driver: Driver::new(RelayMux::new(budgets.clone(), now), now),
            budgets,
            greeted: false,
            greets: false,
            leaving: false,
            replaced: false,
            was_silent: false,
            listeners: BTreeMap::new(),
            excused_until: now,
        }
    }

    /// Opens a stream for a call. Returns true if the tunnel accepted it.
    pub(super) fn open(&mut self, call: usize, calls: &Calls, now: Instant) -> Result<bool, Finding> {
        let plan = calls.plan(call)?;
        let ask = calls.ask(call)?;
        let mut head = request(ask.from);
        head.request_id = call.to_string();
        let body = Bytes::from(vec![b'q'; plan.asks]);
        let patience = ask.patience(now);
        let Ok(stream) = self.driver.mux.open(head, body, patience, now) else {
            return Ok(false);
        };
        let listener = Listener {
            call,
            opened: now,
            patience,
            received: ask.from,
            answered: false,
            came: now,
            granted_at: now,
            took: now,
            granted: INITIAL_WINDOW.into(),
            spent: 0,
            held: VecDeque::new(),
            over: false,
        };
        self.listeners.insert(stream, listener);
        Ok(true)
    }

    /// Sends GOAWAY, unless there was no HELLO yet: then there is nothing to leave.
    pub(super) fn go_away(&mut self, goaway: Goaway) {
        if self.greeted {
            self.leaving = true;
            self.driver.mux.go_away(goaway);
        }
    }

    pub(super) fn takes_requests(&self) -> bool {
        self.greeted && !self.leaving && !self.replaced
    }

    /// Returns true once after the agent has greeted.
    pub(super) fn greets(&mut self) -> bool {
        std::mem::take(&mut self.greets)
    }

    /// Another tunnel of the agent replaces this one.
    pub(super) fn give_way(&mut self) {
        self.replaced |= self.takes_requests();
    }

    /// Returns true once after the agent has become silent.
    pub(super) fn falls_silent(&mut self) -> bool {
        let silent = self.driver.mux.is_silent();
        !std::mem::replace(&mut self.was_silent, silent) && silent
    }

    /// Calls without a response are retried on another tunnel.
    pub(super) fn lose_unanswered(&mut self, calls: &mut Calls) {
        let unanswered = self.listeners.extract_if(.., |_, listener| !listener.answered && !listener.over);
        for (stream, listener) in unanswered {
            self.driver.mux.release(stream);
            calls.lose(listener.call);
        }
    }

    /// When something is due at the latest.
    pub(super) fn due(&self, calls: &Calls) -> Instant {
        let timers = self.listeners.values().flat_map(|listener| listener.due(calls));
        timers.chain([self.driver.due()]).min().unwrap_or_else(|| self.driver.due())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.listeners.is_empty() && self.driver.mux.is_drained()
    }

    fn listener(&mut self, stream: StreamId) -> Result<&mut Listener, Finding> {
        let listener = self.listeners.get_mut(&stream).filter(|listener| !listener.over);
        listener.ok_or_else(|| Finding::new("a stream went on after its end"))
    }

    fn take(
        &mut self,
        stream: StreamId,
        data: &Bytes,
        calls: &mut Calls,
        now: Instant,
    ) -> Result<(), Finding> {
        let listener = self.listener(stream)?;
        let end = listener.received + data.len() as u64;
        if !listener.answered || *data != body(mark(listener.call), listener.received..end) {
            return Err(Finding::new("wrong bytes were delivered"));
        }
        calls.deliver(listener.call, [listener.received, end])?;
        listener.received = end;
        listener.came = now;
        listener.spent += u64::from(cost(data.len()));
        listener.held.push_back(cost(data.len()));
        Ok(())
    }

    /// Checks that a stream was given up for a valid reason, and not before its time.
    fn give_up(
        &mut self,
        stream: StreamId,
        code: ResetCode,
        calls: &mut Calls,
        now: Instant,
    ) -> Result<(), Finding> {
        let excused = now <= self.excused_until;
        let leaving = self.leaving;
        let listener = self.listener(stream)?;
        listener.over = true;
        let plan = calls.plan(listener.call)?;
        let rested = now >= listener.took.max(listener.came) + PAUSE_TIMEOUT;
        let right = match code {
            ResetCode::ReadFailed => plan.fails_at.is_some(),
            ResetCode::DeadlineExceeded => !listener.answered && now >= listener.opened + listener.patience,
            ResetCode::Stalled if listener.has_credit() => {
                now >= listener.came + STALL_TIMEOUT && (plan.may_stall() || excused)
            }
            // Credit that is due may wait for a socket that takes nothing.
            ResetCode::Stalled => rested || (excused && now >= listener.came + STALL_TIMEOUT),
            ResetCode::Refused => leaving,
            ResetCode::Cancelled | ResetCode::Malformed | ResetCode::Other(_) => false,
        };
        let finding = (!right).then(|| {
            let since = now - listener.opened;
            Finding::of(
                "a stream was given up without need",
                format!("{code:?} on {stream} {since:?} after {listener:?}"),
            )
        });
        if code == ResetCode::Refused {
            calls.refuse(listener.call);
        } else {
            calls.settle(listener.call, Outcome::Reset(code));
        }
        finding.map_or(Ok(()), Err)
    }

    /// Does the listener's work until it has to wait for something.
    fn listen(&mut self, stream: StreamId, calls: &mut Calls, now: Instant) -> Result<(), Finding> {
        let Some(listener) = self.listeners.get_mut(&stream) else { return Ok(()) };
        let plan = calls.plan(listener.call)?;
        let leaves = plan.leaves.is_some_and(|after| now >= listener.opened + after);
        while !leaves
            && now >= listener.took + plan.rests
            && let Some(cost) = listener.held.pop_front()
        {
            listener.took = now;
            self.driver.mux.consume(stream, cost, now);
            if !plan.rests.is_zero() {
                break;
            }
        }
        if leaves || (listener.over && listener.held.is_empty()) {
            if !listener.over {
                calls.settle(listener.call, Outcome::Left);
            }
            self.listeners.remove(&stream);
            self.driver.mux.release(stream);
        }
        Ok(())
    }
}

impl Side for RelaySide {
    type Mux = RelayMux;
    const NAME: &'static str = "relay";

    fn driver(&mut self) -> &mut Driver<RelayMux> {
        &mut self.driver
    }

    fn work(&mut self, calls: &mut Calls, now: Instant) -> Result<(), Finding> {
        while let Some(event) = self.driver.mux.poll_event() {
            match event {
                RelayEvent::Hello(_) => {
                    (self.greeted, self.greets) = (true, true);
                    self.driver.mux.welcome(welcome());
                }
                RelayEvent::Status(_) => {}
                RelayEvent::Goaway(_) => self.leaving = true,
                RelayEvent::Response(stream, _) => {
                    let listener = self.listener(stream)?;
                    (listener.answered, listener.came) = (true, now);
                    calls.answer(listener.call)?;
                }
                RelayEvent::Data(stream, data) => self.take(stream, &data, calls, now)?,
                RelayEvent::End(stream) => {
                    let listener = self.listener(stream)?;
                    listener.over = true;
                    let call = listener.call;
                    let received = listener.received;
                    let plan = calls.plan(call)?;
                    if received != plan.bytes || plan.fails_at.is_some() {
                        return Err(Finding::new("a body was complete that is not"));
                    }
                    calls.bytes += received;
                    calls.settle(call, Outcome::Complete);
                }
                RelayEvent::Reset(stream, code, _) => self.give_up(stream, code, calls, now)?,
            }
        }
        for stream in self.listeners.keys().copied().collect::<Vec<_>>() {
            self.listen(stream, calls, now)?;
        }
        Ok(())
    }

    fn on_sent(&mut self, frame: &Frame, now: Instant) {
        if let Frame::Credit(stream, bytes) = frame
            && let Some(listener) = self.listeners.get_mut(stream)
        {
            listener.granted += u64::from(*bytes);
            listener.granted_at = now;
        }
    }

    fn on_close(&mut self, _code: CloseCode) -> Result<(), Finding> {
        Err(Finding::new("an agent closed a tunnel"))
    }

    fn closes(&self) -> Option<CloseCode> {
        let done = self.leaving && self.driver.mux.is_drained();
        self.replaced.then_some(CloseCode::Replaced).or(done.then_some(CloseCode::GoingAway))
    }

    /// The tunnel is gone: running calls are cut.
    fn on_end(&mut self, calls: &mut Calls) {
        for listener in std::mem::take(&mut self.listeners).into_values().filter(|listener| !listener.over) {
            if listener.answered {
                calls.cut(listener.call, listener.received);
            } else {
                calls.lose(listener.call);
            }
        }
    }

    fn check(&self, calls: &Calls, now: Instant) -> Result<(), Finding> {
        let mut held = 0;
        let mut open = 0;
        for listener in self.listeners.values() {
            let holds: u64 = listener.held.iter().copied().map(u64::from).sum();
            if holds > MAX_WINDOW.into() || listener.spent > listener.granted {
                return Err(Finding::new("more than a window is held"));
            }
            held += holds;
            open += usize::from(!listener.over);
            if listener.is_overdue(now) {
                return Err(Finding::of("a stream is open past its time", format!("{listener:?}")));
            }
            calls.plan(listener.call)?;
        }
        if open != self.driver.mux.open_streams() || held > self.budgets.tunnel.used() {
            return Err(Finding::new("streams or bytes are not accounted for"));
        }
        Ok(())
    }
}

impl Listener {
    fn has_credit(&self) -> bool {
        self.granted >= self.spent + u64::from(MIN_DATA_COST)
    }

    fn is_overdue(&self, now: Instant) -> bool {
        if self.over {
            return false;
        }
        if !self.answered {
            return now >= self.opened + self.patience;
        }
        let patience = if self.has_credit() { STALL_TIMEOUT } else { PAUSE_TIMEOUT };
        now >= self.came.max(self.granted_at).max(self.took) + patience
    }

    /// When the listener takes the next chunk, and when it leaves.
    fn due(&self, calls: &Calls) -> [Instant; 2] {
        let far = self.opened + 100 * PAUSE_TIMEOUT;
        let Ok(plan) = calls.plan(self.call) else { return [far; 2] };
        let takes = if self.held.is_empty() { far } else { self.took + plan.rests };
        [takes, plan.leaves.map_or(far, |after| self.opened + after)]
    }
}

/// A call that waits for a tunnel.
#[derive(Debug)]
pub(super) struct Waiting {
    call: usize,
    pub(super) until: Instant,
}

impl World<'_> {
    /// Starts a call.
    pub(super) fn call(&mut self) -> Result<(), Finding> {
        let plan = CallPlan::random(&mut self.chance);
        let call = self.calls.add(plan.clone(), self.now);
        self.calls.say(self.now, format_args!("call {call}: {plan:?}"));
        self.wait(call)?;
        self.ask_waiting()
    }

    /// A tunnel whose agent has greeted replaces the other tunnels of the same agent. They are closed at once, because
    /// the agent has given them up.
    pub(super) fn replace(&mut self) {
        let greets = |tunnel: &mut Tunnel| tunnel.relay.as_mut().is_some_and(|relay| relay.greets());
        let Some(newest) = self.tunnels.iter_mut().position(greets) else { return };
        let others = self.tunnels.iter_mut().enumerate().filter(|(at, _)| *at != newest);
        others.filter_map(|(_, tunnel)| tunnel.relay.as_mut()).for_each(|relay| relay.give_way());
    }

    /// Calls without a response are retried on another tunnel, if theirs becomes silent and another tunnel is not
    /// silent.
    pub(super) fn leave_silent(&mut self) {
        let speaks = |tunnel: &Tunnel| {
            tunnel.relay.as_ref().is_some_and(|relay| relay.takes_requests() && !relay.driver.mux.is_silent())
        };
        let another = self.tunnels.iter().any(speaks);
        for relay in self.tunnels.iter_mut().filter_map(|tunnel| tunnel.relay.as_mut()) {
            if relay.falls_silent() && another {
                relay.lose_unanswered(&mut self.calls);
            }
        }
    }

    /// Sends calls that wait. A call that has waited for too long is over.
    pub(super) fn ask_waiting(&mut self) -> Result<(), Finding> {
        for call in self.calls.take_lost() {
            self.wait(call)?;
        }
        for waiting in std::mem::take(&mut self.waiting) {
            if self.ask(waiting.call)? {
                continue;
            }
            if self.now < waiting.until {
                self.waiting.push(waiting);
            } else {
                let asked = self.calls.ask(waiting.call)?.was_asked();
                self.calls.settle(waiting.call, if asked { Outcome::Cut } else { Outcome::NotOpened });
            }
        }
        Ok(())
    }

    fn wait(&mut self, call: usize) -> Result<(), Finding> {
        let ask = self.calls.ask(call)?;
        let until = if ask.continued { self.now + RETURN_WINDOW } else { ask.answer_from() };
        self.waiting.push(Waiting { call, until });
        Ok(())
    }

    /// Returns true if the call was sent on a tunnel, or is over.
    fn ask(&mut self, call: usize) -> Result<bool, Finding> {
        let ask = self.calls.ask(call)?;
        let open_to = |tunnel: &&mut Tunnel| {
            tunnel.relay.as_ref().is_some_and(|relay| relay.takes_requests() && !ask.has_tried(tunnel.number))
        };
        let idleness = |tunnel: &&mut Tunnel| {
            tunnel.relay.as_ref().map(|relay| {
                let mux = &relay.driver.mux;
                (mux.is_silent(), mux.open_streams(), tunnel.number)
            })
        };
        let Some(tunnel) = self.tunnels.iter_mut().filter(open_to).min_by_key(idleness) else {
            return Ok(false);
        };
        let number = tunnel.number;
        let Some(relay) = &mut tunnel.relay else { return Ok(false) };
        self.calls.say(self.now, format_args!("call {call} is asked of tunnel {number}"));
        if relay.open(call, &self.calls, self.now)? {
            self.calls.asked(call, number);
        } else {
            self.calls.settle(call, Outcome::NotOpened);
        }
        Ok(true)
    }
}
