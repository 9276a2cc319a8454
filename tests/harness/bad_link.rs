//! A link between agent and relay that fails on purpose.
//!
//! It is a TCP relay in the test. It can cut connections, keep them open while no data passes, and pass data in one
//! direction only. Data that it holds back arrives late but never changed: TCP promises no less.

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

/// What the link does with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Passes all data.
    Sound,
    /// Passes no data. Connections stay open, and new ones can be made.
    Dead,
    /// Passes only data from the relay.
    DeadUpwards,
    /// Passes only data from the agent.
    DeadDownwards,
}

/// The direction of data.
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

/// What applies to each connection: the state that the link had when the connection was made, until the test changes
/// the state of that connection too.
#[derive(Debug, Clone, Copy)]
struct State {
    /// State of connections that were made before `since`.
    old: Line,
    /// State of later connections.
    new: Line,
    /// The number of the first later connection.
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

/// The link. It ends with its connections when this is dropped.
#[derive(Debug)]
pub struct BadLink {
    /// The address at which the agent reaches the relay.
    pub address: SocketAddr,
    scheme: &'static str,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    _task: JoinSet<()>,
}

impl BadLink {
    /// A link to a relay that passes all data.
    pub async fn to(relay: &Relay) -> Self {
        // The listener has the relay's loopback address, since the relay's certificate names that address.
        let listener = TcpListener::bind((relay.address.ip(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = watch::Sender::new(State { old: Line::Sound, new: Line::Sound, since: 0, cut: 0 });
        let counters = Arc::new(Counters::default());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, relay.address, state.clone(), Arc::clone(&counters)));
        let scheme = if relay.certificate().is_some() { "wss" } else { "ws" };
        Self { address, scheme, state, counters, _task: task }
    }

    /// The value of the agent's `--relay`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Sets the state for existing and for future connections.
    pub fn set(&self, line: Line) {
        self.state.send_modify(|state| (state.old, state.new) = (line, line));
    }

    /// Sets the state for existing connections only. Future ones pass all data.
    pub fn set_living(&self, line: Line) {
        let since = self.connections();
        self.state.send_modify(|state| (state.old, state.new, state.since) = (line, Line::Sound, since));
    }

    /// Cuts all existing connections.
    pub fn cut(&self) {
        let cut = self.connections();
        self.state.send_modify(|state| state.cut = cut);
    }

    /// The number of connections that have been made.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::SeqCst)
    }

    /// The number of bytes that have passed from the agent to the relay.
    pub fn passed_up(&self) -> u64 {
        self.counters.up.load(Ordering::SeqCst)
    }

    /// Waits until this many more bytes have passed from the agent to the relay.
    pub async fn wait_for_bytes(&self, more: u64) {
        let until = self.passed_up() + more;
        let passed = async {
            while self.passed_up() < until {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::process::PATIENCE, passed).await.expect("bytes pass");
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

/// Passes data in one direction until its sender ends the stream.
async fn pass(
    (mut from, mut to): (tcp::OwnedReadHalf, tcp::OwnedWriteHalf),
    (number, way): (u64, Way),
    mut state: watch::Receiver<State>,
    counter: &AtomicU64,
) -> Option<()> {
    let mut bytes = vec![0; 64 * 1024];
    let passes = |state: &State| {
        let line = if number < state.since { state.old } else { state.new };
        line.passes(way)
    };
    loop {
        state.wait_for(&passes).await.ok()?;
        let len = from.read(&mut bytes).await.ok()?;
        // The state may have changed during the read.
        state.wait_for(&passes).await.ok()?;
        if len == 0 {
            return to.shutdown().await.ok();
        }
        to.write_all(&bytes[..len]).await.ok()?;
        counter.fetch_add(len as u64, Ordering::SeqCst);
    }
}
