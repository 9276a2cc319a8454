//! Several relays that share one PostgreSQL server: each knows which of them holds which tunnel, and passes on a
//! request that it cannot answer by itself to the right one.
//!
//! Peer is no consensus protocol. Every relay writes to the server which tunnels it holds; [`watch`](self) reads this
//! into [`Routes`]. Requests are routed from there, even while the server is unreachable.

mod client;
mod gossip;
mod key;
pub mod part;
pub mod rebalance;
mod replay;
mod routes;
mod seal;
mod watch;
mod wire;

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audiovault_common::tls::{CertificateError, CertificateFiles};
use audiovault_protocol::{identity::site::SiteId, message::AgentRequest};
use governor::{DefaultDirectRateLimiter, Quota};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch as channel},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use self::{client::NodeClient, replay::Replays};
pub use self::{
    client::{NodeAnswer, Unreachable},
    gossip::{Gossip, NodeReport, PartsQuestion, SessionsQuestion},
    key::{ClusterKey, ShortKey, Stamp, Unproven},
    rebalance::{AgentSlot, Balance, MOVED_FOR},
    routes::{LEASE, LeaseReading, Node, NodeNews, Part, Places, Reading, Routes, SessionId},
    seal::{ProvenBody, Seal},
    wire::{HEAD, MAX_CALL_LEN, NO_AGENT, NodeCall, NotACall, PROOF},
};
use crate::{
    audit::journal::JournalHealth,
    limits::Limits,
    store::{RouteBook, RouteChange, StoreError},
    tunnel::registry::{AgentTarget, NoSession},
};

/// Requests in a second that may try a peer relay without a known route to their agent: enough for sites that have
/// just connected, few enough for sites that are down.
const IN_THE_DARK: NonZero<u32> = NonZero::new(20).expect("more than none");
/// How long a request waits while the routes of its site are read again.
const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// What requests know about the peer relays.
#[derive(Debug)]
pub struct Cluster {
    own_run: String,
    own_url: String,
    book: RouteBook,
    routes: Mutex<Routes>,
    /// Counts changes of the routes, for tasks that wait for one.
    changes: channel::Sender<u64>,
    /// Counts changes of the relays, which are rare.
    nodes: channel::Sender<u64>,
    /// Notified if all routes should be read again.
    read_anew: Notify,
    client: NodeClient,
    key: ClusterKey,
    /// Whether the relays have TLS between them.
    tls: bool,
    /// The requests of peer relays that have come.
    replays: Mutex<Replays>,
    gossip: Gossip,
    /// The database does not answer, so changes of routes may be missed.
    leases_unreadable: AtomicBool,
    /// Limits requests to a relay of which it is not known that it has their agent.
    in_the_dark: DefaultDirectRateLimiter,
}

/// Why a relay cannot join a cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Peer relays cannot be reached with TLS.
    #[error("cannot use the certificate for peer relays")]
    Certificate(#[from] CertificateError),
}

/// Membership in a cluster. It ends when this is dropped.
#[derive(Debug)]
pub struct Membership {
    /// What requests know about the peer relays.
    pub cluster: Arc<Cluster>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Cluster {
    /// Joins the relays that share a database: takes a lease for this run, and knows all routes when it returns. The
    /// limits of this relay count what happens at the peers.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(
        config: &ClusterConfig,
        book: RouteBook,
        own_run: &str,
        limits: Arc<Limits>,
    ) -> Result<Membership, JoinError> {
        let (client, certificate) = NodeClient::new(config.key.clone(), own_run, config.tls.clone())?;
        let cluster = Arc::new(Self {
            own_run: own_run.to_owned(),
            own_url: config.url.as_str().trim_end_matches('/').to_owned(),
            book,
            routes: Mutex::default(),
            changes: channel::Sender::new(0),
            nodes: channel::Sender::new(0),
            read_anew: Notify::new(),
            client,
            key: config.key.clone(),
            tls: config.tls.is_some(),
            replays: Mutex::default(),
            gossip: Gossip::new(limits),
            leases_unreadable: AtomicBool::new(false),
            in_the_dark: DefaultDirectRateLimiter::direct(Quota::per_second(IN_THE_DARK)),
        });
        let tasks = watch::start(&cluster, certificate).await?;
        Ok(Membership { cluster, _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect() })
    }

    /// A peer relay that has the wanted agent on another tunnel than those `tried`.
    ///
    /// # Errors
    /// [`NoSession`] if there is none.
    pub fn find(&self, target: &AgentTarget, tried: &[Node]) -> Result<Node, NoSession> {
        let mut routes = self.lock();
        let none = match routes.find(target, tried) {
            Ok(node) => return Ok(node),
            Err(none) => none,
        };
        // The route of an agent that has just connected may not have been announced yet, and cannot be while the
        // database is unreachable.
        let is_new = |node: &Node| tried.iter().all(|tried| tried.run != node.run);
        let other = routes.nodes().find(is_new).ok_or(none)?;
        let asks = self.leases_unreadable.load(Ordering::Relaxed) || self.in_the_dark.check().is_ok();
        if asks { Ok(other) } else { Err(none) }
    }

    /// Until when requests may wait for the wanted agent.
    pub fn returns_by(&self, target: &AgentTarget) -> Option<Instant> {
        self.lock().returns_by(target, Instant::now())
    }

    /// Whether a peer relay holds a tunnel of a site.
    pub fn holds(&self, site: &SiteId) -> bool {
        self.lock().holds(site)
    }

    /// The number of tunnels of each peer relay that is not lost.
    pub fn counts(&self) -> Vec<usize> {
        self.lock().counts()
    }

    /// Receives a notification for every change of the routes.
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Sends a request to an agent of a peer relay. `patience` is the timeout for everything up to the head of the
    /// response. Stops waiting if the relay is lost.
    ///
    /// # Errors
    /// [`Unreachable`]. The relay is then not asked again until there is a new sign of life.
    #[tracing::instrument(name = "peer", skip_all, fields(node = %node.url))]
    pub async fn call(
        &self,
        node: &Node,
        target: &AgentTarget,
        request: &AgentRequest,
        patience: Duration,
    ) -> Result<NodeAnswer, Unreachable> {
        // The peer must report that its agent was late before this relay gives up on the peer.
        let call = NodeCall::encode(target, request, patience * 9 / 10);
        let mut asking = std::pin::pin!(self.client.call(node, call, patience));
        let answered = tokio::select! {
            biased;
            answered = &mut asking => answered,
            () = self.lost(node) => Err(Unreachable::Lost),
        };
        match &answered {
            Ok(NodeAnswer::NoAgent(_)) => {
                tracing::debug!(site = %target.site, node = %node.url, "a peer relay does not have the requested \
                                                                        tunnel");
                if self.change(|routes, now| routes.stale(&node.run, target, now)) {
                    self.look_up(&target.site, &node.run).await;
                }
            }
            // A timeout may be the agent's fault; if the relay itself hangs, its lease shows it. Giving up on a lost
            // relay is not a new failure either.
            Err(Unreachable::Deadline | Unreachable::Lost) => {}
            Err(error) => {
                if self.change_nodes(|routes, now| routes.suspect(&node.run, now)) {
                    tracing::warn!(
                        node = %node.url,
                        error = error as &dyn std::error::Error,
                        code = "peer.silent",
                        "a peer relay does not answer"
                    );
                }
            }
            Ok(NodeAnswer::Answer(_) | NodeAnswer::Refused(_) | NodeAnswer::Lost) => {}
        }
        answered
    }

    /// Reads again which relays hold tunnels of a site, except for the run `but`, if the database answers soon.
    async fn look_up(&self, site: &SiteId, but: &str) {
        if let Ok(Ok(found)) = timeout(LOOK_UP_TIMEOUT, self.book.routes_of(site, &self.own_run)).await {
            self.change(|routes, now| {
                found.into_iter().filter(|route| route.run != but).for_each(|route| {
                    routes.apply(RouteChange::Opened(route), &self.own_run, now);
                });
            });
        }
    }

    /// Checks that a request comes from a relay of this cluster, is for this run of this relay, and comes for the
    /// first time. The returned [`Seal`] proves that the response belongs to this request.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn check(&self, path: &str, question: &[u8], proof: &str) -> Result<Seal, Unproven> {
        let now = wire::unix_time();
        let stamp = self.key.check(path, question, proof, now)?;
        if stamp.to != self.own_run {
            return Err(Unproven::OtherRelay);
        }
        let mut replays = self.replays.lock();
        if !replays.is_first(&stamp, now) {
            return Err(Unproven::Replayed);
        }
        drop(replays);
        Ok(Seal { key: self.key.clone(), stamp, with_body: !self.tls })
    }

    /// What the peer relays report about sites.
    pub fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// The address under which peer relays reach this relay.
    pub fn own_url(&self) -> &str {
        &self.own_url
    }

    /// Waits until a relay is lost.
    async fn lost(&self, node: &Node) {
        let mut changes = self.nodes.subscribe();
        // The sender lives as long as `self`, so this ends in no other way.
        let _ = changes.wait_for(|_| self.lock().is_lost(&node.run)).await;
    }

    /// Changes the routes and wakes the tasks that wait for that.
    fn change<T>(&self, change: impl FnOnce(&mut Routes, Instant) -> T) -> T {
        let changed = change(&mut self.lock(), Instant::now());
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    /// As [`Cluster::change`], if relays may have come or gone.
    fn change_nodes<T>(&self, change: impl FnOnce(&mut Routes, Instant) -> T) -> T {
        let changed = self.change(change);
        self.nodes.send_modify(|count| *count += 1);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock()
    }
}

/// Checked settings of a relay that is part of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The address under which the peer relays reach this relay.
    pub url: Url,
    /// The address on which it listens for them.
    pub bind: SocketAddr,
    /// The key by which the relays prove who they are.
    pub key: ClusterKey,
    /// The certificate by which they prove it in the TLS handshake. It was usable when the configuration was checked.
    pub tls: Option<CertificateFiles>,
}

/// One relay of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// The address under which the peer relays reach it.
    pub url: String,
    /// Whether it is the relay that answers this request.
    pub here: bool,
    /// Its health.
    #[serde(flatten)]
    pub health: NodeHealth,
}

/// The health of a relay, as it reports it to its peers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Whether the database answers this relay.
    pub database: bool,
    /// Whether it can write the audit log and the history.
    pub journal: bool,
}

impl NodeHealth {
    pub(crate) fn new(database: bool, journal: &JournalHealth) -> Self {
        Self { database, journal: journal.is_well() }
    }

    /// Whether everything works.
    pub fn is_well(&self) -> bool {
        self.database && self.journal
    }
}
