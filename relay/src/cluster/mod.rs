//! Several relays that share one PostgreSQL server: each knows which of them holds which tunnel, and has the right one answer
//! what it cannot answer by itself.
//!
//! There is no protocol of consensus here. The server is where everybody writes which tunnels they hold; [`watch`](self)
//! reads it into [`Routes`], and requests are routed from there, whatever becomes of the server meanwhile.

mod balance;
mod client;
mod key;
pub mod minutes;
pub(crate) mod node_health;
mod others;
pub mod part;
pub mod rebalance;
mod replay;
mod routes;
mod seal;
pub mod settings;
mod watch;
mod wire;

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audiovault_protocol::site::SiteId;
use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota};
use tokio::{
    sync::{Notify, watch as channel},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

pub use self::{
    balance::{AgentSlot, Balance, MOVED_FOR},
    client::{NodeAnswer, Unreachable},
    key::{ClusterKey, ShortKey, Stamp, Unproven},
    others::{Others, PartsQuestion, SessionsQuestion, Telling},
    routes::{LEASE, LeaseReading, Node, NodeNews, Part, Places, Reading, Routes, SessionId},
    seal::{ProvenBody, Seal},
    wire::{HEAD, MAX_CALL_LEN, NOBODY, NodeCall, NotACall, PROOF},
};
use self::{client::NodeClient, replay::Replays, settings::ClusterConfig};
use crate::{
    limits::Limits,
    net::listen::CertificateError,
    store::{RouteBook, RouteChange, StoreError},
    tunnel::registry::{NoSession, Wanted},
};

/// Requests in a second that ask other relays for an agent of which nothing is known: enough for those of sites that have just come,
/// few for those of sites that are down.
const IN_THE_DARK: NonZero<u32> = NonZero::new(20).expect("more than none");
/// How long a request waits for the routes of its site to be read anew.
const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// What requests know of the other relays.
#[derive(Debug)]
pub struct Cluster {
    own_run: String,
    own_url: String,
    book: RouteBook,
    routes: Mutex<Routes>,
    /// Counts changes of the routes, for whoever waits for one.
    changes: channel::Sender<u64>,
    /// Counts changes of the relays, which are seldom.
    nodes: channel::Sender<u64>,
    /// Somebody wants everything read anew.
    read_anew: Notify,
    client: NodeClient,
    key: ClusterKey,
    /// Whether relays have TLS between them.
    tls: bool,
    /// The questions of other relays that have come.
    replays: Mutex<Replays>,
    others: Others,
    /// The database does not answer, so that changes are not told.
    unheard: AtomicBool,
    /// Requests that go to a relay of which it is not known that it has their agent.
    in_the_dark: DefaultDirectRateLimiter,
}

/// Why a relay cannot be one of several.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other relays cannot be reached with TLS.
    #[error("the certificate for other relays cannot be used")]
    Certificate(#[from] CertificateError),
}

/// A place in a cluster. It is given up when this is dropped.
#[derive(Debug)]
pub struct Membership {
    /// What requests know of the others.
    pub cluster: Arc<Cluster>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Cluster {
    /// Joins the relays that share a database: takes a lease for a run, and knows all routes when it returns. Its limits count
    /// what happens at the others.
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
            others: Others::new(limits),
            unheard: AtomicBool::new(false),
            in_the_dark: DefaultDirectRateLimiter::direct(Quota::per_second(IN_THE_DARK)),
        });
        let tasks = watch::start(&cluster, certificate).await?;
        Ok(Membership { cluster, _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect() })
    }

    /// A relay that can have the wanted agent answer, by another tunnel than those that were `tried`.
    ///
    /// # Errors
    /// [`NoSession`].
    pub fn find(&self, wanted: &Wanted, tried: &[Node]) -> Result<Node, NoSession> {
        let mut routes = self.lock();
        let none = match routes.find(wanted, tried) {
            Ok(node) => return Ok(node),
            Err(none) => none,
        };
        // Of an agent that has just come nobody may have told yet; and nobody can while the database is away.
        let is_new = |node: &Node| tried.iter().all(|tried| tried.run != node.run);
        let other = routes.nodes().find(is_new).ok_or(none)?;
        let asks = self.unheard.load(Ordering::Relaxed) || self.in_the_dark.check().is_ok();
        if asks { Ok(other) } else { Err(none) }
    }

    /// Until when the wanted agent may be waited for.
    pub fn back_by(&self, wanted: &Wanted) -> Option<Instant> {
        self.lock().back_by(wanted, Instant::now())
    }

    /// Whether another relay holds a tunnel of a site.
    pub fn holds(&self, site: &SiteId) -> bool {
        self.lock().holds(site)
    }

    /// How many tunnels each other relay has, that is not lost.
    pub fn counts(&self) -> Vec<usize> {
        self.lock().counts()
    }

    /// Is told of every change of the routes.
    pub fn changes(&self) -> channel::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has another relay's agent answer a request, within a time for everything up to the head of the answer. A relay that is
    /// lost meanwhile is not waited for.
    ///
    /// # Errors
    /// [`Unreachable`]; the relay is not asked again until it is heard of.
    pub async fn call(
        &self,
        node: &Node,
        wanted: &Wanted,
        request: &http::Request<Bytes>,
        patience: Duration,
    ) -> Result<NodeAnswer, Unreachable> {
        // It has to say that its agent was late before this relay thinks that of it.
        let call = NodeCall::encode(wanted, request, patience * 9 / 10);
        let mut asking = std::pin::pin!(self.client.call(node, call, patience));
        let answered = tokio::select! {
            biased;
            answered = &mut asking => answered,
            () = self.lost(node) => Err(Unreachable::Lost),
        };
        match &answered {
            Ok(NodeAnswer::Nobody(_)) => {
                tracing::debug!(site = %wanted.site, node = %node.url, "a relay does not hold a tunnel that it was asked for");
                if self.change(|routes, now| routes.stale(&node.run, wanted, now)) {
                    self.look_up(&wanted.site, &node.run).await;
                }
            }
            // Its agent may be to blame; if it hangs itself, its lease says so. Nor is that it was given up a new failure.
            Err(Unreachable::Deadline | Unreachable::Lost) => {}
            Err(error) => {
                if self.change_nodes(|routes, now| routes.suspect(&node.run, now)) {
                    tracing::warn!(node = %node.url, error = error as &dyn std::error::Error, "a relay does not answer");
                }
            }
            Ok(NodeAnswer::Answer(_) | NodeAnswer::Refused(_) | NodeAnswer::Lost) => {}
        }
        answered
    }

    /// Reads anew which relays but one hold tunnels of a site, if the database answers soon.
    async fn look_up(&self, site: &SiteId, but: &str) {
        if let Ok(Ok(found)) = timeout(LOOK_UP_TIMEOUT, self.book.routes_of(site, &self.own_run)).await {
            self.change(|routes, now| {
                found.into_iter().filter(|route| route.run != but).for_each(|route| {
                    routes.apply(RouteChange::Opened(route), &self.own_run, now);
                });
            });
        }
    }

    /// Whether what is asked at a path is asked by a relay of this cluster, of this run of this one, and for the first time. By
    /// what it returns the answer proves that it is the one to this question.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn check(&self, path: &str, question: &[u8], proof: &str) -> Result<Seal, Unproven> {
        let now = wire::unix_time();
        let stamp = self.key.check(path, question, proof, now)?;
        if stamp.to != self.own_run {
            return Err(Unproven::OtherRelay);
        }
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        if !replays.is_first(&stamp, now) {
            return Err(Unproven::Replayed);
        }
        drop(replays);
        Ok(Seal { key: self.key.clone(), stamp, with_body: !self.tls })
    }

    /// What all relays see of sites.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Where others reach this relay.
    pub fn own_url(&self) -> &str {
        &self.own_url
    }

    /// Waits until a relay is lost.
    async fn lost(&self, node: &Node) {
        let mut changes = self.nodes.subscribe();
        // The sender is held, so this does not end otherwise.
        let _ = changes.wait_for(|_| self.lock().is_lost(&node.run)).await;
    }

    /// Changes the routes and wakes whoever waits for that.
    fn change<T>(&self, change: impl FnOnce(&mut Routes, Instant) -> T) -> T {
        let changed = change(&mut self.lock(), Instant::now());
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    /// As [`Cluster::change`], where relays may have come or gone.
    fn change_nodes<T>(&self, change: impl FnOnce(&mut Routes, Instant) -> T) -> T {
        let changed = self.change(change);
        self.nodes.send_modify(|count| *count += 1);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
