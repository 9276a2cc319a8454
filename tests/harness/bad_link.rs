//! A line between agent and relay that fails on purpose, as a TCP relay of the story's own: it cuts connections, lets them
//! live while nothing passes, and lets pass what goes one way only. What it withholds comes late, never wrong: TCP
//! promises no less.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};

use crate::relay::Relay;

/// What the line does with octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Passes everything.
    Sound,
    /// Passes nothing, though connections live and can be made.
    Dead,
    /// Passes what comes from the relay only.
    DeadUpwards,
    /// Passes what comes from the agent only.
    DeadDownwards,
}

/// Which way octets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Line {
    fn passes(self, way: Way) -> bool {
        match self {
            Self::Sound => true,
            Self::Dead => false,
            Self::DeadUpwards => way == Way::Down,
            Self::DeadDownwards => way == Way::Up,
        }
    }
}

/// What applies to one connection: the line when it was made counts only as long as nothing was changed for it.
#[derive(Debug, Clone, Copy)]
struct State {
    /// For connections made before `since`.
    old: Line,
    /// For connections made later.
    new: Line,
    /// The number of the first connection that is new.
    since: u64,
    /// Connections with a lower number are cut.
    cut: u64,
}

#[derive(Debug, Default)]
struct Counters {
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
}

/// The line. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct BadLink {
    /// Where the agent finds the relay.
    pub address: SocketAddr,
    scheme: &'static str,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    _task: JoinSet<()>,
}

impl BadLink {
    /// A sound line to a relay.
    pub async fn to(relay: &Relay) -> Self {
        // The same loopback address: the relay's certificate names it.
        let listener = TcpListener::bind((relay.address.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = watch::Sender::new(State { old: Line::Sound, new: Line::Sound, since: 0, cut: 0 });
        let counters = Arc::new(Counters::default());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, relay.address, state.clone(), Arc::clone(&counters)));
        let scheme = if relay.certificate().is_some() { "wss" } else { "ws" };
        Self { address, scheme, state, counters, _task: task }
    }

    /// What the agent takes as `--relay`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Makes the line so, for connections that live and those to come.
    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| (state.old, state.new) = (line, line));
    }

    /// Makes the line so for the connections that live; those to come find it sound.
    pub fn set_living(&self, line: Line) {
        let since = self.connections();
        self.state.send_modify(|state| (state.old, state.new, state.since) = (line, Line::Sound, since));
    }

    /// Cuts all connections that live.
    pub fn cut(&self) {
        let cut = self.connections();
        self.state.send_modify(|state| state.cut = cut);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::SeqCst)
    }

    /// Octets that have passed from the agent to the relay.
    pub fn passed_up(&self) -> u64 {
        self.counters.up.load(Ordering::SeqCst)
    }

    /// Waits until so many octets more have passed from the agent to the relay.
    pub async fn wait_for_octets(&self, more: u64) {
        let until = self.passed_up() + more;
        let passed = async {
            while self.passed_up() < until {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::process::PATIENCE, passed).await.expect("octets pass");
    }
}

async fn serve(
    listener: TcpListener,
    relay: SocketAddr,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    while let Ok((agent, _)) = listener.accept().await {
        let number = counters.connections.fetch_add(1, Ordering::SeqCst);
        let (state, counters) = (state.subscribe(), Arc::clone(&counters));
        connections.spawn(async move {
            let Ok(relay) = TcpStream::connect(relay).await else { return };
            let _ = (agent.set_nodelay(true), relay.set_nodelay(true));
            let (from_agent, to_agent) = agent.into_split();
            let (from_relay, to_relay) = relay.into_split();
            let mut cut = state.clone();
            tokio::select! {
                _ = cut.wait_for(|state| number < state.cut) => {}
                _ = async { tokio::join!(
                    pass((from_agent, to_relay), (number, Way::Up), state.clone(), &counters.up),
                    pass((from_relay, to_agent), (number, Way::Down), state.clone(), &counters.down),
                ) } => {}
            }
        });
    }
}

/// Passes octets one way until their sender has no more.
async fn pass(
    (mut from, mut to): (tcp::OwnedReadHalf, tcp::OwnedWriteHalf),
    (number, way): (u64, Way),
    mut state: watch::Receiver<State>,
    counter: &AtomicU64,
) -> Option<()> {
    let mut octets = vec![0; 64 * 1024];
    let passes = |state: &State| {
        let line = if number < state.since { state.old } else { state.new };
        line.passes(way)
    };
    loop {
        state.wait_for(&passes).await.ok()?;
        let len = from.read(&mut octets).await.ok()?;
        // The line may have died since.
        state.wait_for(&passes).await.ok()?;
        if len == 0 {
            return to.shutdown().await.ok();
        }
        to.write_all(&octets[..len]).await.ok()?;
        counter.fetch_add(len as u64, Ordering::SeqCst);
    }
}
