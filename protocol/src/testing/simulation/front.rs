//! The public side of the simulated relay: which tunnel gets a call, and which one gets its retry.

use std::time::{Duration, Instant};

use super::{Finding, World, calls::Outcome, plan::CallPlan, tunnel::Tunnel};

/// How long a call that was cut in its body waits for another tunnel, as in the relay.
const RETURN_WINDOW: Duration = Duration::from_secs(60);

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
