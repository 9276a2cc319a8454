//! The same faults with the link's real drivers: sockets, mailboxes and tasks on tokio's paused clock.
//!
//! A seed defines a history of minutes to hours: connections in memory that are slow, held up, cut, or carry data in
//! one direction only; an agent that dials in parallel to a silent tunnel; a relay that lets the new tunnel replace the
//! old one, retries calls without a response, and requests the rest of bodies that were cut; listeners that pause and
//! leave. Everything runs on one thread, and time goes on only when nothing else can, so the same seed always gives the
//! same history.

mod agent;
mod listener;
mod pipe;
mod relay;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{pipe::Cable, relay::Session};
use super::{
    Chance, Figures, Finding,
    calls::{CallPlan, Outcome},
};
use crate::{
    flow::credit::WindowBudget,
    limits::{DEAD_AFTER, PAUSE_TIMEOUT, PROCESS_WINDOW_BUDGET},
    link::{AgentControl, Ended},
    message::{CloseCode, Goaway, Status},
    mux::Violation,
};

/// How long after a fault a tunnel or a stream may end because of it: until the tunnel is found dead, and as long
/// again.
const EXCUSED_FOR: Duration = Duration::from_secs(2 * DEAD_AFTER.as_secs());

/// Simulates the history of a seed. `trace` is called afterwards with each event and its time since the beginning.
///
/// # Errors
/// The first [`Finding`].
pub fn simulate(seed: u64, trace: &mut dyn FnMut(Duration, fmt::Arguments<'_>)) -> Result<Figures, Finding> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| Finding::of("there is no runtime", error))?;
    let (figures, log) = runtime.block_on(async {
        let world = Arc::new(World::new());
        let figures = live(&world, Chance::new(seed)).await;
        let log = std::mem::take(&mut world.state().log);
        (figures, log)
    });
    log.iter().for_each(|(at, what)| trace(*at, format_args!("{what}")));
    figures
}

#[expect(clippy::disallowed_methods, reason = "the clock is simulated")]
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The shared state of the simulation.
#[derive(Debug)]
struct World {
    began: Instant,
    process: Arc<WindowBudget>,
    /// Wakes tasks that wait for a tunnel.
    arrived: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Vec<(Duration, String)>,
    finding: Option<Finding>,
    figures: Figures,
    plans: Vec<CallPlan>,
    outcomes: BTreeMap<usize, Outcome>,
    /// How often each part of a call was served.
    served: BTreeMap<(usize, u64), u32>,
    /// Number of requests that the agent's service is working on.
    alive: usize,
    sessions: Vec<Arc<Session>>,
    control: Option<AgentControl>,
    cables: Vec<Cable>,
    dialled: u64,
    line_free_at: Instant,
    excused_until: Instant,
    /// By how much the clock has stepped.
    stepped: Duration,
    calm: bool,
}

impl World {
    fn new() -> Self {
        let now = now();
        let state = State {
            log: Vec::new(),
            finding: None,
            figures: Figures::default(),
            plans: Vec::new(),
            outcomes: BTreeMap::new(),
            served: BTreeMap::new(),
            alive: 0,
            sessions: Vec::new(),
            control: None,
            cables: Vec::new(),
            dialled: 0,
            line_free_at: now,
            excused_until: now,
            stepped: Duration::ZERO,
            calm: false,
        };
        let process = WindowBudget::new(PROCESS_WINDOW_BUDGET);
        Self { began: now, process, arrived: Notify::new(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn say(&self, what: String) {
        let at = now() - self.began;
        self.state().log.push((at, what));
    }

    fn find(&self, finding: Finding) {
        self.state().finding.get_or_insert(finding);
    }

    fn plan(&self, call: usize) -> Option<CallPlan> {
        self.state().plans.get(call).cloned()
    }

    /// Counts that the service serves a part of a call. Returns how often it has done so.
    fn serves(&self, call: usize, part: u64) -> u32 {
        let mut state = self.state();
        let served = state.served.entry((call, part)).or_default();
        *served += 1;
        *served
    }

    fn settle(&self, call: usize, outcome: Outcome) {
        self.say(format!("call {call} is over: {outcome:?}"));
        let mut state = self.state();
        let bytes = state.plans.get(call).map_or(0, |plan| plan.bytes);
        let figures = &mut state.figures;
        figures.calls += u64::from(outcome != Outcome::NotOpened);
        figures.complete += u64::from(outcome == Outcome::Complete);
        figures.cut += u64::from(outcome == Outcome::Cut);
        figures.bytes += if outcome == Outcome::Complete { bytes } else { 0 };
        if state.outcomes.insert(call, outcome).is_some() {
            state.finding.get_or_insert(Finding::new("a call ended twice"));
        }
    }

    fn add_cable(&self, cable: Cable) -> u64 {
        let mut state = self.state();
        state.cables.retain(|cable| !cable.is_over());
        state.cables.push(cable);
        state.figures.tunnels += 1;
        state.dialled += 1;
        state.dialled
    }

    fn line_free_at(&self) -> Instant {
        self.state().line_free_at
    }

    fn stepped(&self) -> Duration {
        self.state().stepped
    }

    fn is_calm(&self) -> bool {
        self.state().calm
    }

    /// True if the network may be to blame for something that happened at most this long `ago`.
    fn is_excused(&self, ago: Duration) -> bool {
        now() <= self.state().excused_until + ago
    }

    fn excuse(&self, until: Instant) {
        let mut state = self.state();
        state.excused_until = state.excused_until.max(until + EXCUSED_FOR);
    }

    fn add_plan(&self, plan: CallPlan) -> usize {
        let number = self.state().plans.len();
        self.say(format!("call {number}: {plan:?}"));
        self.state().plans.push(plan);
        number
    }

    fn calm_down(&self) {
        self.say("all is well from now on".to_owned());
        let mut state = self.state();
        (state.calm, state.line_free_at) = (true, now());
        state.cables.iter().for_each(Cable::heal);
    }

    /// The figures of the history, after its end.
    fn sum_up(&self) -> Result<Figures, Finding> {
        let mut state = self.state();
        let streams = state.sessions.iter().map(|session| session.caller.open_streams()).sum::<usize>();
        let kept = (streams, state.alive, self.process.used());
        if kept != (0, 0, 0) {
            let (streams, requests, windows) = kept;
            let what = format!("{streams} streams, {requests} requests, {windows} bytes of windows");
            state.finding.get_or_insert(Finding::of("something is kept", what));
        }
        state.figures.simulated = now() - self.began;
        state.finding.take().map_or(Ok(state.figures), Err)
    }

    /// Checks that a tunnel ended for a valid reason.
    fn judge(&self, side: &str, ended: &Ended) {
        let right = match ended {
            Ended::Broken(_) => true,
            Ended::Violation(violation) => {
                matches!(violation, Violation::Silent | Violation::NoGreeting)
                    && self.is_excused(Duration::ZERO)
            }
            Ended::ByUs(close) | Ended::ByPeer(close) => match close.code {
                CloseCode::Normal | CloseCode::GoingAway | CloseCode::Replaced => true,
                CloseCode::NoGreeting | CloseCode::Silent => self.is_excused(Duration::ZERO),
                CloseCode::WebSocketViolation
                | CloseCode::UnsupportedData
                | CloseCode::InvalidPayload
                | CloseCode::TooBig
                | CloseCode::ProtocolViolation
                | CloseCode::CreditExceeded
                | CloseCode::Revoked
                | CloseCode::TooManyTunnels
                | CloseCode::Other(_) => false,
            },
        };
        if !right {
            self.find(Finding::of("an honest peer is accused", format!("at the {side}: {ended}")));
        }
    }
}

/// Reports a panic: a task that panics ends without a message, but it drops this guard.
struct Watched(Arc<World>);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.find(Finding::new("a task panicked"));
        }
    }
}

async fn live(world: &Arc<World>, mut chance: Chance) -> Result<Figures, Finding> {
    let mut agent = JoinSet::new();
    agent.spawn(agent::supervise(Arc::clone(world), chance.fork()));
    let mut calls = JoinSet::new();
    // Without faults of the network, no failure is excused by it.
    let faulty = !chance.one_in(3);
    for _ in 0..5 + chance.below(40) {
        sleep(chance.time(Duration::from_secs(60))).await;
        if chance.one_in(40) {
            // Longer than the pause timeout: a long lunch.
            sleep(PAUSE_TIMEOUT + chance.time(PAUSE_TIMEOUT)).await;
        }
        if chance.one_in(2) {
            let mut plan = CallPlan::random(&mut chance);
            if chance.one_in(6) {
                // More than windows and queues hold.
                plan.bytes += 1_000_000;
                plan.chunk = plan.chunk.max(10_000);
            }
            let number = world.add_plan(plan.clone());
            calls.spawn(listener::call(Arc::clone(world), number, plan));
        } else if faulty && chance.one_in(10) {
            step_clock(world, chance.time(Duration::from_secs(600))).await;
        } else {
            happen(world, &mut chance, faulty);
        }
        world.state().figures.steps += 1;
        if let Some(finding) = world.state().finding.clone() {
            return Err(finding);
        }
    }
    world.calm_down();
    // Everything that can end has ended by then.
    let ended = async { while calls.join_next().await.is_some() {} };
    let in_time = timeout(2 * PAUSE_TIMEOUT, ended).await.is_ok();
    // Streams that listeners have left are being reset at the agent, or their tunnel is found dead.
    sleep(2 * DEAD_AFTER).await;
    if !in_time {
        world.find(Finding::new("a call never ends"));
    }
    world.sum_up()
}

/// The clock steps, as if the machine had slept.
async fn step_clock(world: &World, step: Duration) {
    world.excuse(now() + step);
    world.say(format!("the clock steps by {step:?}"));
    world.state().stepped += step;
    tokio::time::advance(step).await;
}

/// One random event, which does not follow from others.
fn happen(world: &Arc<World>, chance: &mut Chance, faulty: bool) {
    let kind = if faulty { chance.below(9) } else { 5 + chance.below(4) };
    let which = chance.below(3);
    let long = chance.time(Duration::from_secs(120));
    let until = now() + long;
    let mut state = world.state();
    state.cables.retain(|cable| !cable.is_over());
    let at = chance.below(state.cables.len().max(1) as u64) as usize;
    let what = match kind {
        0 | 1 => {
            state.line_free_at = until;
            for cable in &state.cables {
                cable.hold(which, until + chance.time(Duration::from_secs(10)));
            }
            format!("the line is dead for {long:?}, case {which}")
        }
        2 => {
            state.cables.get(at).into_iter().for_each(|cable| cable.cut(which));
            format!("a connection breaks, case {which}")
        }
        3 => {
            state.cables.get(at).into_iter().for_each(|cable| cable.lose(which));
            format!("a connection carries nothing any more, case {which}")
        }
        4 => {
            state.cables.get(at).into_iter().for_each(|cable| cable.hold(which, until));
            format!("nothing gets through for {long:?}, case {which}")
        }
        5 => {
            state.cables.get(at).into_iter().for_each(|cable| cable.change_weather(chance));
            "the way is another".to_owned()
        }
        6 => {
            state.sessions.last().into_iter().for_each(|session| session.go_away());
            "the relay says GOAWAY".to_owned()
        }
        7 => {
            let goaway = Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1000] };
            state.control.iter().for_each(|control| control.go_away(goaway.clone()));
            "the agent says GOAWAY".to_owned()
        }
        _ => {
            state.control.iter().for_each(|control| control.set_status(Status::default()));
            "the agent reports its status".to_owned()
        }
    };
    drop(state);
    if kind < 5 {
        world.excuse(until);
    }
    world.say(what);
}
