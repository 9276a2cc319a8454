//! The relay: its tunnels, and which of them gets a call, with the rules of its registry and its public side.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout_at};

use super::{Watched, World, now, pipe::Pipe};
use crate::{
    flow::credit::{Budgets, WindowBudget},
    limits::TUNNEL_WINDOW_BUDGET,
    link::{
        Answered, Buffered, CallError, Caller, Close, Counted, RelayLink, RelayNotice, Role, Socket, Traffic,
        TunnelBody,
    },
    message::{AgentRequest, CloseCode, Goaway, Hello},
    mux::OpenError,
    testing::{pair::welcome, simulation::Finding},
};

/// Most tunnels that are tried for a call.
const MOST_ASKED: usize = 4;

/// The relay's view of a tunnel.
#[derive(Debug)]
pub(super) struct Session {
    number: u64,
    pub(super) caller: Caller,
    leaving: AtomicBool,
}

impl Session {
    fn takes_requests(&self) -> bool {
        !self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn go_away(&self) {
        if !self.leaving.swap(true, Ordering::Relaxed) {
            self.caller.go_away(Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1000] });
        }
    }

    /// Another tunnel of the agent replaces this one.
    fn give_way(&self, successor: &Hello) {
        if successor.drains {
            self.go_away();
        } else if !self.leaving.swap(true, Ordering::Relaxed) {
            self.caller.close(Close::new(CloseCode::Replaced, "another tunnel has taken over"));
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(world: Arc<World>, number: u64, pipe: Pipe) {
    let _watched = Watched(Arc::clone(&world));
    let traffic = Arc::new(Traffic::default());
    let counted = Counted::new(Buffered::new(pipe), Arc::clone(&traffic));
    let socket = Socket::new(counted, Role::Server, Bytes::new());
    let budgets =
        Budgets { tunnel: WindowBudget::new(TUNNEL_WINDOW_BUDGET), process: Arc::clone(&world.process) };
    let (notify, mut notices) = mpsc::unbounded_channel();
    let notify = move |notice| drop(notify.send(notice));
    let (link, caller) = RelayLink::new(budgets.clone(), Arc::clone(&traffic), notify);
    let session = Arc::new(Session { number, caller, leaving: AtomicBool::new(false) });
    let ended = {
        let mut link = pin!(link.run(socket, traffic));
        loop {
            tokio::select! {
                biased;
                ended = &mut link => break ended,
                Some(notice) = notices.recv() => match notice {
                    RelayNotice::Hello(hello) => world.add(&session, &hello),
                    RelayNotice::Status(_) => {}
                    RelayNotice::Goaway(_) => session.leaving.store(true, Ordering::Relaxed),
                },
            }
        }
    };
    world.remove(&session);
    world.say(format!("the relay's end of tunnel {number} is over: {ended}"));
    world.judge("relay", &ended);
    if budgets.tunnel.used() > 0 {
        world.find(Finding::new("a tunnel ended and kept windows"));
    }
}

impl World {
    fn add(&self, session: &Arc<Session>, hello: &Hello) {
        let mut state = self.state();
        state.sessions.iter().for_each(|old| old.give_way(hello));
        state.sessions.push(Arc::clone(session));
        drop(state);
        session.caller.welcome(welcome());
        self.arrived.notify_waiters();
    }

    fn remove(&self, session: &Arc<Session>) {
        self.state().sessions.retain(|other| !Arc::ptr_eq(other, session));
    }

    /// The least busy of the tunnels that were not tried; a silent one only if all are silent.
    fn pick(&self, tried: &[u64]) -> Option<Arc<Session>> {
        let state = self.state();
        let open = state.sessions.iter().filter(|session| session.takes_requests());
        let untried = open.filter(|session| !tried.contains(&session.number));
        let idlest = untried.min_by_key(|session| {
            (session.caller.is_silent(), session.caller.open_streams(), session.number)
        });
        idlest.cloned()
    }

    async fn wait_for(&self, tried: &[u64], until: Instant) -> Option<Arc<Session>> {
        loop {
            let mut arrival = pin!(self.arrived.notified());
            arrival.as_mut().enable();
            if let Some(session) = self.pick(tried) {
                return Some(session);
            }
            timeout_at(until.into(), arrival).await.ok()?;
        }
    }

    /// Tries one tunnel after the other, as the relay's public side does. `None` if there is no tunnel to try.
    pub(super) async fn ask(
        &self,
        request: &AgentRequest,
        deadline: Instant,
        wait_until: Instant,
    ) -> Option<Result<Answered<TunnelBody>, CallError>> {
        let mut tried = Vec::new();
        let mut lost = false;
        let mut session = self.wait_for(&tried, wait_until).await?;
        loop {
            tried.push(session.number);
            let patience = deadline.saturating_duration_since(now());
            let another = || self.pick(&tried).is_some_and(|other| !other.caller.is_silent());
            let called = unless_silent(&session, request.clone(), patience, another).await;
            let again = match &called {
                Err(CallError::Lost) => !std::mem::replace(&mut lost, true),
                Err(CallError::Refused | CallError::NotOpened(OpenError::Closed)) => true,
                Ok(_) | Err(_) => false,
            };
            if !again || tried.len() == MOST_ASKED {
                return Some(called);
            }
            let Some(next) = self.wait_for(&tried, wait_until).await else { return Some(called) };
            self.state().figures.asked_again += 1;
            session = next;
        }
    }
}

/// Sends a request on a tunnel, and gives it up if the tunnel becomes silent and there is another one.
async fn unless_silent(
    session: &Session,
    request: AgentRequest,
    patience: Duration,
    another: impl Fn() -> bool,
) -> Result<Answered<TunnelBody>, CallError> {
    let mut call = pin!(session.caller.call_within(request, patience));
    tokio::select! {
        biased;
        called = &mut call => return called,
        () = session.caller.silent() => {}
    }
    if another() { Err(CallError::Lost) } else { call.await }
}
