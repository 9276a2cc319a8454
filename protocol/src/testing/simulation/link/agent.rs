//! The agent: keeps a tunnel up, and makes a new one before it breaks the old one, as in its supervisor. Its HTTP
//! service works slowly, hangs and fails as planned.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Sleep, sleep, sleep_until, timeout},
};

use super::{Watched, World, now, pipe, relay};
use crate::{
    http::context::RequestContext,
    limits::SEND_QUEUE_LEN,
    link::{self, AgentAnswer, AgentControl, AgentLink, Buffered, Counted, Ended, LinkState, Role, Traffic},
    message::Hello,
    testing::{
        pair::{body, hello},
        simulation::{
            Chance, Finding,
            calls::{CallPlan, mark},
        },
    },
};

/// Interval between two dials in parallel to a silent tunnel, and how long they go on.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
const DIAL_WINDOW: Duration = Duration::from_secs(30);
/// How long one connection may take to be made, and how long its welcome may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

type Socket = (link::Socket<Counted<Buffered<pipe::Pipe>>>, Arc<Traffic>, u64);

/// A tunnel that was dialled. Dropping it stops its task.
struct Tunnel {
    task: JoinHandle<Ended>,
    control: AgentControl,
    number: u64,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes a connection as soon as the line carries it. `None` if the relay refuses.
async fn connect(world: Arc<World>, mut chance: Chance) -> Option<Socket> {
    sleep_until(world.line_free_at().into()).await;
    sleep(chance.time(DIAL_INTERVAL)).await;
    if chance.one_in(30) {
        return None;
    }
    let (near, far, cable) = pipe::connection(&mut chance);
    let number = world.add_cable(cable);
    world.say(format!("tunnel {number} is dialled"));
    tokio::spawn(relay::serve(Arc::clone(&world), number, near));
    let traffic = Arc::new(Traffic::default());
    let counted = Counted::new(Buffered::new(far), Arc::clone(&traffic));
    let socket = link::Socket::new(counted, Role::Client, Bytes::new());
    Some((socket, traffic, number))
}

impl Tunnel {
    /// Greets the relay.
    fn begin(world: &Arc<World>, chance: &mut Chance, (socket, traffic, number): Socket) -> Self {
        let hello = Hello { drains: false, ..hello(1 + chance.below(12) as u32) };
        let serving = Arc::clone(world);
        let service = move |_: RequestContext, request| answer(Arc::clone(&serving), request);
        let (link, control) = AgentLink::new(hello, service);
        let judging = Arc::clone(world);
        let task = tokio::spawn(async move {
            let _watched = Watched(Arc::clone(&judging));
            let ended = link.run(socket, traffic).await;
            judging.say(format!("the agent's end of tunnel {number} is over: {ended}"));
            judging.judge("agent", &ended);
            ended
        });
        Self { task, control, number }
    }

    async fn is_welcomed(&self) -> bool {
        let mut state = self.control.state();
        let welcome = state.wait_for(|state| matches!(state, LinkState::Welcomed(_)));
        matches!(timeout(DIAL_TIMEOUT, welcome).await, Ok(Ok(_)))
    }
}

/// Keeps a tunnel up as long as the simulation runs.
pub(super) async fn supervise(world: Arc<World>, mut chance: Chance) {
    let _watched = Watched(Arc::clone(&world));
    let mut old = JoinSet::new();
    loop {
        sleep(chance.time(Duration::from_secs(20))).await;
        let Some(socket) = connect(Arc::clone(&world), chance.fork()).await else { continue };
        let mut tunnel = Tunnel::begin(&world, &mut chance, socket);
        while attend(&world, &mut chance, &mut tunnel).await {}
        // Open streams finish there.
        if !tunnel.task.is_finished() {
            old.spawn(async move { drop((&mut tunnel.task).await) });
        }
        while old.try_join_next().is_some() {}
    }
}

/// Attends to a tunnel until it ends or leaves (false), or another one has replaced it (true).
async fn attend(world: &Arc<World>, chance: &mut Chance, tunnel: &mut Tunnel) -> bool {
    world.state().control = Some(tunnel.control.clone());
    let mut state = tunnel.control.state();
    let mut silence = tunnel.control.silence();
    loop {
        tokio::select! {
            biased;
            Ok(()) = state.changed() => {
                if matches!(*state.borrow_and_update(), LinkState::Leaving(_)) {
                    return false;
                }
            }
            _ = &mut tunnel.task => return false,
            Ok(()) = silence.changed() => {
                if *silence.borrow_and_update()
                    && let Some(fresh) = dial_beside(world, chance, &mut silence).await
                {
                    world.say(format!("tunnel {} takes the place of tunnel {}", fresh.number, tunnel.number));
                    world.state().figures.taken_over += 1;
                    *tunnel = fresh;
                    return true;
                }
            }
        }
    }
}

/// The first tunnel that the relay welcomes while another is silent, by the agent's own rule.
async fn dial_beside(
    world: &Arc<World>,
    chance: &mut Chance,
    silence: &mut watch::Receiver<bool>,
) -> Option<Tunnel> {
    world.say("the relay is silent".to_owned());
    let until = now() + DIAL_WINDOW;
    let mut attempts = JoinSet::new();
    let mut next: Instant = now() + chance.time(DIAL_INTERVAL);
    loop {
        tokio::select! {
            biased;
            _heard = async { silence.wait_for(|silent| !silent).await.is_ok() } => return None,
            () = sleep_until(until.into()) => return None,
            () = sleep_until(next.into()) => {
                next = now() + DIAL_INTERVAL;
                let connect = connect(Arc::clone(world), chance.fork());
                attempts.spawn(async move { timeout(DIAL_TIMEOUT, connect).await.ok() });
            }
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Some(Some(socket))) => {
                    let tunnel = Tunnel::begin(world, chance, socket);
                    if tunnel.is_welcomed().await {
                        return Some(tunnel);
                    }
                }
                Ok(Some(None)) => return None,
                Ok(None) | Err(_) => {}
            }
        }
    }
}

/// Counts one request as running until it is dropped.
#[derive(Debug)]
struct Alive(Arc<World>);

impl Alive {
    fn new(world: &Arc<World>) -> Self {
        world.state().alive += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.state().alive -= 1;
    }
}

/// The body of a response, as it is read from a disk.
#[derive(Debug)]
struct Recording {
    call: usize,
    plan: CallPlan,
    offset: u64,
    hung: bool,
    waits: Option<Pin<Box<Sleep>>>,
    _alive: Alive,
}

/// Answers `/CALL/PART/FIRST-BYTE`.
async fn answer(world: Arc<World>, request: Request<Bytes>) -> AgentAnswer<Recording> {
    let alive = Alive::new(&world);
    let mut numbers =
        request.uri().path().split('/').skip(1).map(|number| number.parse().unwrap_or(u64::MAX));
    let [call, part, offset] = [(); 3].map(|()| numbers.next().unwrap_or(u64::MAX));
    let call = usize::try_from(call).unwrap_or(usize::MAX);
    let plan = world.plan(call).unwrap_or_else(|| CallPlan::random(&mut Chance::new(0)));
    if world.serves(call, part) > 2 {
        world.find(Finding::new("a call was served more often than twice"));
    }
    if request.body().len() != plan.asks || request.body().iter().any(|byte| *byte != b'q') {
        world.find(Finding::new("a request came with another body"));
    }
    wait(plan.thinks).await;
    let recording = Recording { call, plan, offset, hung: false, waits: None, _alive: alive };
    AgentAnswer::new(Response::new(recording))
}

/// Waits. If `time` is zero, it does not even yield.
pub(super) async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl Recording {
    fn rest(&mut self, time: Duration) {
        self.waits = (!time.is_zero()).then(|| Box::pin(sleep(time)));
    }
}

impl Body for Recording {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        loop {
            if let Some(waits) = &mut self.waits {
                ready!(waits.as_mut().poll(cx));
                self.waits = None;
            }
            if self.plan.fails_at.is_some_and(|at| self.offset >= at) {
                return Poll::Ready(Some(Err("the disk is gone".to_owned())));
            }
            if self.offset == self.plan.bytes {
                return Poll::Ready(None);
            }
            if let Some((at, time)) = self.plan.hangs
                && self.offset >= at
                && !std::mem::replace(&mut self.hung, true)
            {
                self.rest(time);
                continue;
            }
            let chunk = self.plan.chunk.min(SEND_QUEUE_LEN as u64);
            let end = self.plan.bytes.min(self.offset + chunk);
            let bytes = body(mark(self.call), self.offset..end);
            self.offset = end;
            let reads = self.plan.reads;
            self.rest(reads);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
    }
}
