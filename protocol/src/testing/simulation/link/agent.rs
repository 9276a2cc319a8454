//! The agent: keeps a tunnel up, and makes a new one before it breaks the old one, as in its supervisor.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, sleep_until, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::{Watched, World, now, pipe, relay, service};
use crate::{
    link::{AgentControl, AgentLink, Counted, Ended, LinkState, Traffic, websocket_config},
    message::Hello,
    testing::{pair::hello, simulation::random::Chance},
};

/// Interval between two dials in parallel to a silent tunnel, and how long they go on.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
const DIAL_WINDOW: Duration = Duration::from_secs(30);
/// How long one connection may take to be made, and how long its welcome may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

type Socket = (WebSocketStream<Counted<pipe::Pipe>>, Arc<Traffic>, u64);

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
    let counted = Counted::new(far, Arc::clone(&traffic));
    let socket = WebSocketStream::from_raw_socket(counted, Role::Client, Some(websocket_config())).await;
    Some((socket, traffic, number))
}

impl Tunnel {
    /// Greets the relay.
    fn begin(world: &Arc<World>, chance: &mut Chance, (socket, traffic, number): Socket) -> Self {
        let hello = Hello { drains: false, ..hello(1 + chance.below(12) as u32) };
        let serving = Arc::clone(world);
        let service = tower::service_fn(move |request| service::answer(Arc::clone(&serving), request));
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
