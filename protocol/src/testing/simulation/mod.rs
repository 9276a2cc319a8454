//! A simulation of random faults, with two honest sides, a network that they do not control, and rules that must always
//! hold.
//!
//! A seed defines a whole history over hours of simulated time: calls of all sizes; services that work slowly, hang and
//! fail; listeners that pause and leave; wires that are slow, held up or lost; tunnels that are cut for one end or for
//! both; agents that dial again, also in parallel to a silent tunnel; GOAWAY from either side; and a clock that steps.
//! The simulated time jumps from one event to the next, so there is no waiting, and the same seed always gives the same
//! history.
//!
//! The rules are checked where they could break, after every step. Wrong bytes are never delivered, nor a part in place
//! of the whole. No stream stays open past its time or is given up before it. Everything that waits is limited and
//! accounted for, and is returned in the end. Neither loop is ever busy, or learns that there is nothing to send when
//! there is something. Neither side accuses the other of a violation. With the feature `link`, the module `link`
//! simulates similar histories with the link's real drivers.

mod agent_side;
mod calls;
#[cfg(feature = "link")]
pub mod link;
mod relay_side;
mod side;
mod tunnel;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    agent_side::ParallelDial,
    calls::{Calls, Outcome},
    relay_side::Waiting,
    tunnel::Tunnel,
};
use crate::{
    flow::credit::WindowBudget,
    limits::{PAUSE_TIMEOUT, PROCESS_WINDOW_BUDGET},
    testing::start_of_time,
};

/// A history with more steps than this runs in circles: the longest one has a hundredth of them.
const MOST_STEPS: u64 = 3_000_000;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Finding(String);

impl Finding {
    fn new(what: &str) -> Self {
        Self(what.to_owned())
    }

    fn of(what: &str, detail: impl fmt::Display) -> Self {
        Self(format!("{what}: {detail}"))
    }
}

/// The result of a history, or the sum of many.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Simulated time.
    pub simulated: Duration,
    /// Number of moments at which something happened.
    pub steps: u64,
    /// Tunnels that were dialled.
    pub tunnels: u64,
    /// Tunnels that replaced a silent one.
    pub taken_over: u64,
    /// Calls that were made.
    pub calls: u64,
    /// Calls whose whole body was received.
    pub complete: u64,
    /// Calls that ended with their tunnel.
    pub cut: u64,
    /// How often a call, or the rest of it, was retried on another tunnel.
    pub asked_again: u64,
    /// Bytes of the bodies that were received as a whole.
    pub bytes: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.simulated += other.simulated;
        self.steps += other.steps;
        self.tunnels += other.tunnels;
        self.taken_over += other.taken_over;
        self.calls += other.calls;
        self.complete += other.complete;
        self.cut += other.cut;
        self.asked_again += other.asked_again;
        self.bytes += other.bytes;
    }
}

/// Random numbers that are the same for the same seed, on every machine and with every version of every library:
/// SplitMix64 (Steele, Lea and Flood, 2014): sixty-four bits of state, and every seed is a good one.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A separate generator for a task that runs in parallel.
    #[cfg(feature = "link")]
    fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0. Some numbers come up a little more often, which does not matter here.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in one of `cases` cases.
    fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    /// A number of any order of magnitude up to `most`; small magnitudes are as likely as large ones.
    fn magnitude(&mut self, most: u64) -> u64 {
        let bits = u64::from(most.max(1).ilog2()) + 1;
        let below = 1_u64 << self.below(bits + 1);
        self.below(below).min(most)
    }

    /// A duration of any order of magnitude up to `most`, in whole microseconds.
    fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.magnitude(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Simulates the history of a seed. `trace` is called with each event and its time since the beginning.
///
/// # Errors
/// The first [`Finding`].
pub fn simulate(seed: u64, trace: &mut dyn FnMut(Duration, fmt::Arguments<'_>)) -> Result<Figures, Finding> {
    let mut world = World::new(seed, trace);
    world.run()?;
    Ok(world.figures())
}

struct World<'a> {
    chance: Chance,
    now: Instant,
    calls: Calls<'a>,
    /// Oldest first.
    tunnels: Vec<Tunnel>,
    process: Arc<WindowBudget>,
    /// Calls that wait for a tunnel.
    waiting: Vec<Waiting>,
    dial_at: Option<Instant>,
    /// The tunnel that the agent uses, whether it was silent before, and the parallel dial, if one runs.
    attended: u64,
    was_silent: bool,
    beside: Option<ParallelDial>,
    /// The agent's line carries nothing before this time.
    line_held_until: Option<Instant>,
    /// How many random events are still to come, and when the next one comes.
    events_left: u64,
    event_at: Instant,
    steps: u64,
    dialled: u64,
    taken_over: u64,
}

impl<'a> World<'a> {
    fn new(seed: u64, trace: &'a mut dyn FnMut(Duration, fmt::Arguments<'_>)) -> Self {
        let now = start_of_time();
        let mut chance = Chance::new(seed);
        let events_left = 5 + chance.below(60);
        Self {
            chance,
            now,
            calls: Calls::new(trace),
            tunnels: Vec::new(),
            process: WindowBudget::new(PROCESS_WINDOW_BUDGET),
            waiting: Vec::new(),
            dial_at: Some(now),
            attended: 0,
            was_silent: false,
            beside: None,
            line_held_until: None,
            events_left,
            event_at: now,
            steps: 0,
            dialled: 0,
            taken_over: 0,
        }
    }

    fn run(&mut self) -> Result<(), Finding> {
        while self.events_left > 0 {
            self.step()?;
        }
        self.calls.say(self.now, format_args!("all is well from now on"));
        self.tunnels.iter_mut().for_each(Tunnel::heal);
        self.line_held_until = None;
        self.calls.hurry();
        // Everything that can end has ended by then.
        let until = self.now + 2 * PAUSE_TIMEOUT;
        while !self.is_settled() {
            self.step()?;
            if self.now > until {
                return Err(Finding::of("something never ends", format!("{:?}", self.tunnels)));
            }
        }
        if self.process.used() > 0 {
            return Err(Finding::new("windows were not given back"));
        }
        self.calls.check()
    }

    fn is_settled(&self) -> bool {
        self.calls.are_settled() && self.beside.is_none() && self.tunnels.iter().all(Tunnel::is_idle)
    }

    /// Goes on to the next moment at which something happens.
    fn step(&mut self) -> Result<(), Finding> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(Finding::new("time stands still"));
        }
        let due = self.tunnels.iter().filter_map(|tunnel| tunnel.due(&self.calls)).min();
        let event = Some(self.event_at).filter(|_| self.events_left > 0);
        let waits = self.waiting.iter().map(|waiting| waiting.until).min();
        let beside = self.beside.as_ref().and_then(ParallelDial::due);
        let next = [due, event, self.dial_at, waits, beside].into_iter().flatten().min();
        self.now = next.unwrap_or(self.now).max(self.now);
        if event.is_some_and(|at| at <= self.now) {
            self.happen()?;
        }
        if self.dial_at.is_some_and(|at| at <= self.now) {
            self.dial();
        }
        for at in 0..self.tunnels.len() {
            self.tunnels[at].turn(&mut self.calls, self.now)?;
            self.replace();
        }
        self.leave_silent();
        self.ask_waiting()?;
        self.supervise();
        self.tunnels.retain(|tunnel| !tunnel.is_over());
        let relays = self.tunnels.iter().filter_map(|tunnel| tunnel.relay.as_ref());
        if relays.map(|relay| relay.budgets.tunnel.used()).sum::<u64>() != self.process.used() {
            return Err(Finding::new("the budgets of tunnels and process disagree"));
        }
        Ok(())
    }

    fn dial(&mut self) {
        self.dial_at = Some(self.line_free_at()).filter(|at| *at > self.now);
        if self.dial_at.is_some() {
            return;
        }
        self.attended = self.accept();
        if let Some(tunnel) = self.tunnels.last_mut() {
            tunnel.greet(&mut self.chance, self.now);
        }
    }

    /// Makes a connection. Returns the number of its tunnel.
    fn accept(&mut self) -> u64 {
        self.dialled += 1;
        self.calls.say(self.now, format_args!("an agent dials tunnel {}", self.dialled));
        self.tunnels.push(Tunnel::new(self.dialled, &self.process, &mut self.chance, self.now));
        self.dialled
    }

    /// The earliest time at which a connection can be made.
    fn line_free_at(&self) -> Instant {
        self.line_held_until.map_or(self.now, |until| until.max(self.now))
    }

    /// One random event, which does not follow from others.
    fn happen(&mut self) -> Result<(), Finding> {
        self.events_left -= 1;
        self.event_at = self.now + self.chance.time(Duration::from_secs(60));
        if self.chance.one_in(40) {
            // Longer than the pause timeout: a long lunch.
            self.event_at += PAUSE_TIMEOUT + self.chance.time(PAUSE_TIMEOUT);
        }
        let kind = self.chance.below(20);
        let which = self.chance.below(3);
        let long = self.chance.time(Duration::from_secs(120));
        let at = self.chance.below(self.tunnels.len().max(1) as u64) as usize;
        if kind < 11 {
            return self.call();
        }
        if kind == 11 {
            let step = self.chance.time(Duration::from_secs(600));
            self.calls.say(self.now, format_args!("the clock steps by {step:?}"));
            self.now += step;
            self.tunnels.iter_mut().for_each(|tunnel| tunnel.excuse(self.now));
            return Ok(());
        }
        if kind == 14 {
            self.hold_line(which, long);
            return Ok(());
        }
        let Some(tunnel) = self.tunnels.get_mut(at) else { return Ok(()) };
        let now = self.now;
        match kind {
            12 => {
                self.calls.say(now, format_args!("the connection breaks, case {which}"));
                tunnel.cut(&mut self.calls, which, now)?;
            }
            13 => {
                self.calls.say(now, format_args!("nothing gets through for {long:?}, case {which}"));
                tunnel.hold(which, now + long);
            }
            15 | 16 => {
                let wires = tunnel.change_weather(&mut self.chance);
                self.calls.say(now, format_args!("the way is another: {wires}"));
            }
            17 => {
                self.calls.say(now, format_args!("the relay says GOAWAY"));
                tunnel.go_away(true);
            }
            18 => {
                self.calls.say(now, format_args!("the agent says GOAWAY"));
                tunnel.go_away(false);
            }
            _ => tunnel.report_status(),
        }
        Ok(())
    }

    /// The agent's line carries nothing for a while. Its tunnels carry nothing for a while longer, until TCP has
    /// noticed that the line is back.
    fn hold_line(&mut self, which: u64, long: Duration) {
        self.calls.say(self.now, format_args!("the line is dead for {long:?}, case {which}"));
        let until = self.now + long;
        self.line_held_until = self.line_held_until.max(Some(until));
        for tunnel in &mut self.tunnels {
            tunnel.hold(which, until + self.chance.time(Duration::from_secs(10)));
        }
    }

    fn figures(&self) -> Figures {
        Figures {
            simulated: self.now - start_of_time(),
            steps: self.steps,
            tunnels: self.dialled,
            taken_over: self.taken_over,
            calls: self.calls.count(|outcome| outcome != Outcome::NotOpened),
            complete: self.calls.count(|outcome| outcome == Outcome::Complete),
            cut: self.calls.count(|outcome| outcome == Outcome::Cut),
            asked_again: self.calls.asked_again,
            bytes: self.calls.bytes,
        }
    }
}
