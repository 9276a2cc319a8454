//! The agent of the simulation: its end of a tunnel with the service that answers, and the supervisor that keeps a
//! tunnel up.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::{
    Finding, World,
    calls::{Calls, mark},
    side::{Driver, Side},
    tunnel::Tunnel,
};
use crate::{
    frame::StreamId,
    limits::SEND_QUEUE_LEN,
    message::{CloseCode, ResetCode, ResponseHead},
    mux::{AgentEvent, AgentMux},
    testing::pair::{body, hello},
};

/// Interval between two dials.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long dialling in parallel goes on.
const DIAL_WINDOW: Duration = Duration::from_secs(30);
/// How long one connection may take to be made, and how long its welcome may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The work that the service still has to do for a stream.
#[derive(Debug)]
struct Source {
    call: usize,
    offset: u64,
    responded: bool,
    may_write: bool,
    hung: bool,
    /// The service does nothing before this time.
    ready_at: Instant,
}

#[derive(Debug)]
pub(super) struct AgentSide {
    pub(super) driver: Driver<AgentMux>,
    max_streams: u32,
    sources: BTreeMap<StreamId, Source>,
    /// True if the relay or the agent has sent GOAWAY: another tunnel is needed.
    pub(super) leaving: bool,
    pub(super) welcomed: bool,
}

impl AgentSide {
    pub(super) fn new(max_streams: u32, now: Instant) -> Self {
        Self {
            driver: Driver::new(AgentMux::new(hello(max_streams), now), now),
            max_streams,
            sources: BTreeMap::new(),
            leaving: false,
            welcomed: false,
        }
    }

    /// When something is due at the latest.
    pub(super) fn due(&self) -> Instant {
        let writers = self.sources.values().filter(|source| source.may_write || !source.responded);
        let next = writers.map(|source| source.ready_at).min();
        next.map_or(self.driver.due(), |at| at.min(self.driver.due()))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sources.is_empty() && self.driver.mux.is_drained()
    }

    /// Does the service's work for one stream until it has to wait for something.
    fn serve(&mut self, stream: StreamId, calls: &Calls, now: Instant) -> Result<(), Finding> {
        let Some(source) = self.sources.get_mut(&stream) else { return Ok(()) };
        let plan = calls.plan(source.call)?;
        while now >= source.ready_at {
            if !source.responded {
                source.responded = true;
                let head = ResponseHead { status: 200, headers: HeaderMap::new(), audit: None };
                self.driver.mux.respond(stream, head);
            }
            if plan.fails_at.is_some_and(|at| source.offset >= at) {
                self.sources.remove(&stream);
                self.driver.mux.reset(stream, ResetCode::ReadFailed, "the disk is gone");
                return Ok(());
            }
            if source.offset == plan.bytes {
                self.sources.remove(&stream);
                self.driver.mux.finish(stream);
                return Ok(());
            }
            if let Some((_, time)) = plan.hangs.filter(|(at, _)| source.offset >= *at && !source.hung) {
                (source.hung, source.ready_at) = (true, now + time);
                continue;
            }
            if !source.may_write {
                return Ok(());
            }
            let end = plan.bytes.min(source.offset + plan.chunk.min(SEND_QUEUE_LEN as u64));
            source.may_write = self.driver.mux.send(stream, body(mark(source.call), source.offset..end));
            (source.offset, source.ready_at) = (end, now + plan.reads);
        }
        Ok(())
    }
}

impl Side for AgentSide {
    type Mux = AgentMux;
    const NAME: &'static str = "agent";

    fn driver(&mut self) -> &mut Driver<AgentMux> {
        &mut self.driver
    }

    fn work(&mut self, calls: &mut Calls, now: Instant) -> Result<(), Finding> {
        while let Some(event) = self.driver.mux.poll_event() {
            match event {
                AgentEvent::Welcome(_) => self.welcomed = true,
                AgentEvent::Goaway(_) => self.leaving = true,
                AgentEvent::Request(stream, head, asked) => {
                    let call = head.request_id.parse().unwrap_or(usize::MAX);
                    let plan = calls.plan(call)?;
                    if asked != vec![b'q'; plan.asks] {
                        return Err(Finding::new("a request came with another body"));
                    }
                    let offset = head.target[1..].parse().unwrap_or(u64::MAX);
                    let ready_at = now + plan.thinks;
                    let source =
                        Source { call, offset, responded: false, may_write: true, hung: false, ready_at };
                    self.sources.insert(stream, source);
                }
                AgentEvent::Writable(stream) => {
                    if let Some(source) = self.sources.get_mut(&stream) {
                        source.may_write = true;
                    }
                }
                AgentEvent::Reset(stream, _) => {
                    self.sources.remove(&stream);
                }
            }
        }
        for stream in self.sources.keys().copied().collect::<Vec<_>>() {
            self.serve(stream, calls, now)?;
        }
        Ok(())
    }

    /// The relay closes only tunnels that are drained or replaced.
    fn on_close(&mut self, code: CloseCode) -> Result<(), Finding> {
        if code == CloseCode::Replaced {
            return Ok(());
        }
        if self.driver.mux.open_streams() > 0 || !self.leaving {
            return Err(Finding::new("a relay closed a tunnel that was in use"));
        }
        Ok(())
    }

    fn check(&self, _calls: &Calls, _now: Instant) -> Result<(), Finding> {
        if self.driver.mux.open_streams() > self.max_streams as usize {
            return Err(Finding::new("an agent has more streams than it may"));
        }
        Ok(())
    }
}

/// The agent's rule to make a new tunnel before it breaks the old one, as in its supervisor: if a tunnel is silent, it
/// dials in parallel, greets one of the connections at a time, and the first one that is welcomed takes over.
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
