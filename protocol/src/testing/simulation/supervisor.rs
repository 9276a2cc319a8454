//! The agent's rule to make a new tunnel before it breaks the old one, as in its supervisor: if a tunnel is silent, it
//! dials in parallel, greets one of the connections at a time, and the first one that is welcomed takes over.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{World, tunnel::Tunnel};

/// Interval between two dials.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long dialling in parallel goes on.
const DIAL_WINDOW: Duration = Duration::from_secs(30);
/// How long one connection may take to be made, and how long its welcome may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The state of a parallel dial.
#[derive(Debug)]
pub(super) struct ParallelDial {
    until: Instant,
    dial_at: Instant,
    /// When connections are made, and whether the relay then refuses them.
    connecting: Vec<(Instant, bool)>,
    /// Tunnels that were not greeted yet.
    made: VecDeque<u64>,
    /// The tunnel that was greeted, and until when its welcome is awaited.
    greeting: Option<(u64, Instant)>,
}

impl ParallelDial {
    fn new(first: Instant, now: Instant) -> Self {
        Self {
            until: now + DIAL_WINDOW,
            dial_at: first,
            connecting: Vec::new(),
            made: VecDeque::new(),
            greeting: None,
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let made = self.connecting.iter().map(|(at, _)| *at);
        let own = match self.greeting {
            Some((_, until)) => [until; 2],
            None => [self.until, self.dial_at],
        };
        made.chain(own).min()
    }
}

impl World<'_> {
    /// Checks the tunnel that the agent uses.
    pub(super) fn supervise(&mut self) {
        let attended = self.tunnels.iter().find(|tunnel| tunnel.number == self.attended);
        let serves = attended.is_some_and(Tunnel::serves);
        let silent = serves && attended.is_some_and(Tunnel::is_silent);
        match self.beside.take() {
            Some(beside) => self.go_on(beside, silent),
            None if silent && !self.was_silent => {
                self.calls.say(self.now, format_args!("the relay is silent"));
                let first = self.now + self.chance.time(DIAL_INTERVAL);
                self.beside = Some(ParallelDial::new(first, self.now));
            }
            None if !serves && self.dial_at.is_none() => {
                self.dial_at = Some(self.now + self.chance.time(Duration::from_secs(20)));
            }
            None => {}
        }
        self.was_silent = silent;
    }

    fn go_on(&mut self, mut beside: ParallelDial, silent: bool) {
        if let Some((number, until)) = beside.greeting {
            let greeted = self.tunnels.iter().find(|tunnel| tunnel.number == number);
            if greeted.is_some_and(Tunnel::is_welcomed) {
                self.calls.say(self.now, format_args!("tunnel {number} takes over"));
                self.leave(self.attended);
                beside.made.iter().for_each(|made| self.leave(*made));
                self.attended = number;
                self.taken_over += 1;
                return;
            }
            if self.now < until && greeted.is_some_and(Tunnel::serves) {
                self.connect(&mut beside);
                self.beside = Some(beside);
                return;
            }
            self.leave(number);
            beside.greeting = None;
        }
        let refused = self.connect(&mut beside);
        if !silent || refused || self.now >= beside.until {
            self.calls.say(self.now, format_args!("nothing is dialled beside any more"));
            beside.made.iter().for_each(|made| self.leave(*made));
            return;
        }
        if self.now >= beside.dial_at {
            beside.dial_at = self.now + DIAL_INTERVAL;
            // A connection that cannot be made in time is given up.
            let made_at = self.line_free_at() + self.chance.time(DIAL_INTERVAL);
            if made_at <= self.now + DIAL_TIMEOUT {
                beside.connecting.push((made_at, self.chance.one_in(30)));
            }
        }
        if let Some(number) = beside.made.pop_front()
            && let Some(tunnel) = self.tunnels.iter_mut().find(|tunnel| tunnel.number == number)
        {
            self.calls.say(self.now, format_args!("tunnel {number} is greeted"));
            tunnel.greet(&mut self.chance, self.now);
            beside.greeting = Some((number, self.now + DIAL_TIMEOUT));
        }
        self.beside = Some(beside);
    }

    /// Makes the connections that are due. Returns true if the relay refused one.
    fn connect(&mut self, beside: &mut ParallelDial) -> bool {
        let now = self.now;
        let mut refused = false;
        for (_, refuses) in beside.connecting.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            refused |= refuses;
            if !refuses {
                beside.made.push_back(self.accept());
            }
        }
        refused
    }

    /// The agent drops its end of a tunnel.
    fn leave(&mut self, number: u64) {
        if let Some(tunnel) = self.tunnels.iter_mut().find(|tunnel| tunnel.number == number) {
            tunnel.leave(self.now);
        }
    }
}
