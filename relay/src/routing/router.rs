//! Picks a route to an agent of a site: a tunnel of this relay, or a peer relay that holds one.

use std::sync::Arc;

use audiovault_protocol::identity::site::SiteId;
use tokio::time::{Instant, timeout_at};

use crate::{
    cluster::{Cluster, Node},
    tunnel::{
        registry::{AgentTarget, NoSession, RETURN_TIME, Registry},
        session::Session,
        view::SessionView,
    },
};

/// A route to an agent.
#[derive(Debug, Clone)]
pub enum AgentRoute {
    /// This relay, through one of its own tunnels.
    Local(Arc<Session>),
    /// A peer relay.
    Peer(Node),
}

impl AgentRoute {
    /// The id of the session or the address of the peer relay, for the log.
    pub fn name(&self) -> &str {
        match self {
            Self::Local(session) => &session.id,
            Self::Peer(node) => &node.url,
        }
    }
}

/// The tunnels and peer relays that were asked already.
#[derive(Debug, Default)]
pub struct TriedRoutes {
    sessions: Vec<Arc<Session>>,
    nodes: Vec<Node>,
    /// Until when the request waits for an agent that was expected at a peer relay but was not there.
    returns_by: Option<Instant>,
}

impl TriedRoutes {
    /// Adds a route.
    pub fn push(&mut self, route: &AgentRoute) {
        match route {
            AgentRoute::Local(session) => self.sessions.push(Arc::clone(session)),
            AgentRoute::Peer(node) => self.nodes.push(node.clone()),
        }
    }

    /// The agent was not at the peer relay where it was expected. Requests wait for it as if its tunnel broke at this
    /// moment, even if other news about that relay arrives in the meantime.
    pub fn miss(&mut self, route: &AgentRoute) {
        if matches!(route, AgentRoute::Peer(Node { tunnel: Some(_), .. })) {
            self.returns_by = Some(Instant::now() + RETURN_TIME);
        }
    }

    /// How many tunnels were asked. A peer relay that was asked without knowing that it has a tunnel does not count.
    pub fn tunnels(&self) -> usize {
        self.sessions.len() + self.nodes.iter().filter(|node| node.tunnel.is_some()).count()
    }
}

/// Finds routes to agents. Tunnels of this relay come first, because a peer relay costs one hop more.
#[derive(Debug, Clone)]
pub struct AgentRouter {
    registry: Arc<Registry>,
    cluster: Option<Arc<Cluster>>,
}

impl AgentRouter {
    /// Routes to the agents of this relay and, if it is part of a cluster, to those of the peer relays.
    pub fn new(registry: Arc<Registry>, cluster: Option<Arc<Cluster>>) -> Self {
        Self { registry, cluster }
    }

    /// The cluster, if this relay is part of one.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// Whether an agent of a site is connected to this relay.
    pub fn is_here(&self, site: &SiteId) -> bool {
        self.registry.has_session(site)
    }

    /// Whether an agent of a site is connected to this relay or to another one.
    pub fn is_anywhere(&self, site: &SiteId) -> bool {
        self.is_here(site) || self.cluster.as_ref().is_some_and(|cluster| cluster.holds(site))
    }

    /// Whether all agents of a site are connected to peer relays.
    pub fn is_elsewhere(&self, site: &SiteId) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.holds(site)) && !self.is_here(site)
    }

    /// The tunnels of a site, here and at peer relays.
    pub async fn sessions(&self, site: &SiteId) -> Vec<SessionView> {
        let own_url = self.cluster.as_ref().map(|cluster| cluster.own_url());
        let here = self.registry.sessions(site);
        let mut all: Vec<_> = here.iter().map(|session| SessionView::of(session, own_url)).collect();
        if let Some(cluster) = &self.cluster {
            all.extend(cluster.sessions(site).await);
        }
        all
    }

    /// A route to the wanted agent that is not among those `tried`.
    ///
    /// # Errors
    /// [`NoSession`] if there is none.
    pub fn pick(&self, target: &AgentTarget, tried: &TriedRoutes) -> Result<AgentRoute, NoSession> {
        let here = match self.registry.pick(target, &tried.sessions) {
            Ok(session) => return Ok(AgentRoute::Local(session)),
            Err(none) => none,
        };
        let Some(cluster) = &self.cluster else { return Err(here) };
        cluster.find(target, &tried.nodes).map(AgentRoute::Peer).map_err(|there| match (here, there) {
            (NoSession::Offline, NoSession::Offline) => NoSession::Offline,
            _ => NoSession::OtherKey,
        })
    }

    /// As [`AgentRouter::pick`], but waits if an agent should be back soon, at most until `until`.
    ///
    /// # Errors
    /// [`NoSession`] if no agent came in time.
    pub async fn pick_expected(
        &self,
        target: &AgentTarget,
        tried: &TriedRoutes,
        until: Instant,
    ) -> Result<AgentRoute, NoSession> {
        let returns_by = || {
            let elsewhere = self.cluster.as_ref().and_then(|cluster| cluster.returns_by(target));
            Some(self.registry.returns_by(target).max(elsewhere).max(tried.returns_by)?.min(until))
        };
        self.wait_for(target, tried, returns_by).await
    }

    /// As [`AgentRouter::pick`], but waits until `until`, even if no agent is expected.
    ///
    /// # Errors
    /// [`NoSession`] if no agent came in time.
    pub async fn pick_until(
        &self,
        target: &AgentTarget,
        tried: &TriedRoutes,
        until: Instant,
    ) -> Result<AgentRoute, NoSession> {
        self.wait_for(target, tried, || Some(until)).await
    }

    async fn wait_for(
        &self,
        target: &AgentTarget,
        tried: &TriedRoutes,
        returns_by: impl Fn() -> Option<Instant>,
    ) -> Result<AgentRoute, NoSession> {
        let none = match self.pick(target, tried) {
            Ok(route) => return Ok(route),
            Err(none) => none,
        };
        returns_by().ok_or(none)?;
        let arrivals = self.registry.arrivals(&target.site);
        let mut changes = self.cluster.as_ref().map(|cluster| cluster.changes());
        loop {
            let mut arrival = std::pin::pin!(arrivals.notified());
            arrival.as_mut().enable();
            if let Some(changes) = &mut changes {
                changes.mark_unchanged();
            }
            // An agent that came before this loop began to wait has not woken it, so pick again.
            let none = match self.pick(target, tried) {
                Ok(route) => return Ok(route),
                Err(none) => none,
            };
            let until = returns_by().ok_or(none)?;
            let changed = async {
                match &mut changes {
                    Some(changes) => drop(changes.changed().await),
                    None => std::future::pending().await,
                }
            };
            let woken = async {
                tokio::select! {
                    () = arrival => {}
                    () = changed => {}
                }
            };
            timeout_at(until, woken).await.map_err(|_| none)?;
        }
    }
}
