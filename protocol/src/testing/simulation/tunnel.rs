//! One simulated tunnel: two ends that may end at different times, and one wire in each direction.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Chance, Finding, agent_side::AgentSide, calls::Calls, relay_side::RelaySide, side::Side};
use crate::{
    flow::credit::WindowBudget,
    limits::DEAD_AFTER,
    message::{CloseCode, Goaway, Status},
    mux::PingPayload,
};

/// How long after a fault a stream may stall because of it: the stall timeout of 30 s, and as long again to catch up.
const EXCUSED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) number: u64,
    pub(super) relay: Option<RelaySide>,
    pub(super) agent: Option<AgentSide>,
    /// From relay to agent, and from agent to relay.
    wires: [Wire; 2],
}

impl Tunnel {
    /// A connection that was just made, without a greeting yet.
    pub(super) fn new(number: u64, process: &Arc<WindowBudget>, chance: &mut Chance, now: Instant) -> Self {
        let wires = [random_wire(chance), random_wire(chance)];
        Self { number, relay: Some(RelaySide::new(process, now)), agent: None, wires }
    }

    /// The agent introduces itself.
    pub(super) fn greet(&mut self, chance: &mut Chance, now: Instant) {
        let max_streams = 1 + chance.below(12) as u32;
        self.agent = Some(AgentSide::new(max_streams, now));
    }

    /// The agent drops its end.
    pub(super) fn leave(&mut self, now: Instant) {
        self.agent = None;
        self.wires[1].send(Message::Reset, now);
    }

    /// When something happens next.
    pub(super) fn due(&self, calls: &Calls) -> Option<Instant> {
        let arrivals = [
            self.wires[0].next_arrival().filter(|_| self.agent.is_some()),
            self.wires[1].next_arrival().filter(|_| self.relay.is_some()),
        ];
        let ends =
            [self.relay.as_ref().map(|relay| relay.due(calls)), self.agent.as_ref().map(AgentSide::due)];
        arrivals.into_iter().chain(ends).flatten().min()
    }

    pub(super) fn turn(&mut self, calls: &mut Calls, now: Instant) -> Result<(), Finding> {
        let [down, up] = &mut self.wires;
        if let Some(relay) = &mut self.relay {
            relay.turn(calls, [&mut *up, &mut *down], now)?;
        }
        if let Some(agent) = &mut self.agent {
            agent.turn(calls, [&mut *down, &mut *up], now)?;
        }
        // Messages that the agent has received make room, for which the relay's socket waits.
        if let Some(relay) = self.relay.as_mut().filter(|relay| relay.driver.waits_for_room())
            && down.takes_more()
        {
            relay.turn(calls, [&mut *up, &mut *down], now)?;
        }
        self.bury()
    }

    /// Removes ends that are over, and checks that they keep no windows.
    fn bury(&mut self) -> Result<(), Finding> {
        self.agent.take_if(|agent| agent.driver.ended);
        if let Some(relay) = self.relay.take_if(|relay| relay.driver.ended) {
            let budgets = relay.budgets.clone();
            drop(relay);
            if budgets.tunnel.used() > 0 {
                return Err(Finding::new("a tunnel ended and kept windows"));
            }
        }
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.relay.is_none() && self.agent.is_none()
    }

    /// True if both ends live and have nothing to do but to ping.
    pub(super) fn is_idle(&self) -> bool {
        self.relay.as_ref().is_some_and(RelaySide::is_idle)
            && self.agent.as_ref().is_some_and(AgentSide::is_idle)
    }

    /// True if the agent has no reason to dial another tunnel.
    pub(super) fn serves(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| !agent.leaving)
    }

    /// True if the agent finds the relay silent.
    pub(super) fn is_silent(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.driver.mux.is_silent())
    }

    pub(super) fn is_welcomed(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.welcomed)
    }

    /// The connection breaks. Both ends notice it, or only one, and the other finds out.
    pub(super) fn cut(&mut self, calls: &mut Calls, notice: u64, now: Instant) -> Result<(), Finding> {
        self.wires.iter_mut().for_each(Wire::lose);
        self.excuse(now + DEAD_AFTER);
        if notice != 1
            && let Some(relay) = &mut self.relay
        {
            relay.end(calls);
        }
        if notice != 2
            && let Some(agent) = &mut self.agent
        {
            agent.driver.ended = true;
        }
        self.bury()
    }

    /// One direction, or both, carry nothing before this time.
    pub(super) fn hold(&mut self, which: u64, until: Instant) {
        if which != 1 {
            self.wires[0].hold(until);
        }
        if which != 0 {
            self.wires[1].hold(until);
        }
        self.excuse(until);
    }

    /// Streams that stall until this time, and a while longer, are excused.
    pub(super) fn excuse(&mut self, until: Instant) {
        if let Some(relay) = &mut self.relay {
            relay.excused_until = relay.excused_until.max(until + EXCUSED_FOR);
        }
    }

    /// Changes the network for everything that is sent from now on. Returns a description.
    pub(super) fn change_weather(&mut self, chance: &mut Chance) -> String {
        for wire in &mut self.wires {
            wire.become_like(&random_wire(chance));
        }
        let words = self.wires.iter().map(|wire| format!("{:?} at {} bytes/s", wire.latency, wire.rate));
        words.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn heal(&mut self) {
        for wire in &mut self.wires {
            wire.heal();
            (wire.latency, wire.rate) = (Duration::from_millis(5), 10_000_000);
        }
    }

    pub(super) fn go_away(&mut self, from_relay: bool) {
        let goaway = Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1000] };
        if from_relay && let Some(relay) = &mut self.relay {
            relay.go_away(goaway);
        } else if !from_relay && let Some(agent) = &mut self.agent {
            agent.leaving = true;
            agent.driver.mux.go_away(goaway);
        }
    }

    pub(super) fn report_status(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.driver.mux.set_status(Status::default());
        }
    }
}

/// A message of the WebSocket.
#[derive(Debug)]
pub(super) enum Message {
    Frame(Bytes),
    Ping(PingPayload),
    Pong(PingPayload),
    Close(CloseCode),
    /// Not a message: the connection was reset.
    Reset,
}

/// An item that takes time on a wire, depending on its length.
pub(super) trait Carried {
    fn len(&self) -> usize;
}

impl Carried for Message {
    fn len(&self) -> usize {
        match self {
            Self::Frame(bytes) => bytes.len(),
            Self::Ping(_) | Self::Pong(_) | Self::Close(_) | Self::Reset => 8,
        }
    }
}

/// One direction of a connection: messages arrive in order, late, at a limited rate, or not at all.
#[derive(Debug)]
pub(super) struct Wire<M = Message> {
    latency: Duration,
    /// Bytes per second.
    rate: u64,
    /// When this many bytes are in flight, the sender's socket takes no more.
    room: usize,
    /// Nothing arrives before this time.
    held_until: Option<Instant>,
    /// Nothing arrives any more.
    lost: bool,
    free_at: Option<Instant>,
    arrived_last: Option<Instant>,
    queue: VecDeque<(Instant, M)>,
    bytes: usize,
}

impl<M: Carried> Wire<M> {
    fn new(latency: Duration, rate: u64, room: usize) -> Self {
        Self {
            latency,
            rate,
            room,
            held_until: None,
            lost: false,
            free_at: None,
            arrived_last: None,
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes over latency, rate and room of another wire.
    pub(super) fn become_like(&mut self, other: &Self) {
        (self.latency, self.rate, self.room) = (other.latency, other.rate, other.room);
    }

    pub(super) fn takes_more(&self) -> bool {
        self.bytes < self.room
    }

    /// Sends a message. Messages that are sent automatically, such as pongs, do not check for room.
    pub(super) fn send(&mut self, message: M, now: Instant) {
        let takes = Duration::from_micros(message.len() as u64 * 1_000_000 / self.rate.max(1));
        let gone = self.free_at.map_or(now, |free| free.max(now)) + takes;
        let at = self.arrived_last.map_or(gone + self.latency, |last| last.max(gone + self.latency));
        (self.free_at, self.arrived_last) = (Some(gone), Some(at));
        self.bytes += message.len();
        self.queue.push_back((at, message));
    }

    /// Holds everything up until this time, as a network does that has lost its route for a while.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// From now on nothing arrives, and neither end notices it.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// Releases everything that is held up.
    pub(super) fn heal(&mut self) {
        self.held_until = None;
    }

    /// When the next message arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let (at, _) = self.queue.front().filter(|_| !self.lost)?;
        Some(self.held_until.map_or(*at, |held| held.max(*at)))
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<M> {
        self.next_arrival().filter(|at| *at <= now)?;
        let (_, message) = self.queue.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

/// A random wire, between those of one machine and of a satellite. On it, no stream stalls for seconds because of
/// others.
pub(super) fn random_wire<M: Carried>(chance: &mut Chance) -> Wire<M> {
    let latency = Duration::from_micros(50) + chance.time(Duration::from_secs(1));
    let rate = 100_000 + chance.magnitude(1_000_000_000);
    let room = 4096 + chance.magnitude(256 * 1024) as usize;
    Wire::new(latency, rate, room)
}
