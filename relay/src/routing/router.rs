//! Picks a route to an agent of a site: a tunnel of this relay, or a peer relay that holds one.

use std::sync::Arc;

use audiovault_protocol::identity::site::SiteId;
use tokio::time::{Instant, timeout_at};

use crate::{
    cluster::{Cluster, Node},
    tunnel::{
        registry::{NoSession, RETURN_TIME, Registry, Wanted},
        session::Session,
        view::SessionView,
    },
};

/// A route to an agent.
#[derive(Debug, Clone)]
pub enum Holder {
    /// This relay, through one of its own tunnels.
    Here(Arc<Session>),
    /// A peer relay.
    There(Node),
}

impl Holder {
    /// The id of the session or the address of the peer relay, for the log.
    pub fn name(&self) -> &str {
        match self {
            Self::Here(session) => &session.id,
            Self::There(node) => &node.url,
        }
    }
}

/// The tunnels and peer relays that were asked already.
#[derive(Debug, Default)]
pub struct Tried {
    sessions: Vec<Arc<Session>>,
    nodes: Vec<Node>,
    /// Until when the request waits for an agent that was expected at a peer relay but was not there.
    back_by: Option<Instant>,
}

impl Tried {
    /// Adds a route.
    pub fn push(&mut self, holder: &Holder) {
        match holder {
            Holder::Here(session) => self.sessions.push(Arc::clone(session)),
            Holder::There(node) => self.nodes.push(node.clone()),
        }
    }

    /// The agent was not at the peer relay where it was expected. Requests wait for it as if its tunnel broke at this
    /// moment, even if other news about that relay arrives in the meantime.
    pub fn miss(&mut self, holder: &Holder) {
        if matches!(holder, Holder::There(Node { tunnel: Some(_), .. })) {
            self.back_by = Some(Instant::now() + RETURN_TIME);
        }
    }

    /// How many tunnels were asked. A peer relay that was asked without knowing that it has a tunnel does not count.
    pub fn tunnels(&self) -> usize {
        self.sessions.len() + self.nodes.iter().filter(|node| node.tunnel.is_some()).count()
    }
}

/// Finds routes to agents. Tunnels of this relay come first, because a peer relay costs one hop more.
#[derive(Debug, Clone)]
pub struct Reach {
    registry: Arc<Registry>,
    cluster: Option<Arc<Cluster>>,
}

impl Reach {
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
        !self.registry.sessions(site).is_empty()
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
    pub fn pick(&self, wanted: &Wanted, tried: &Tried) -> Result<Holder, NoSession> {
        let here = match self.registry.pick(wanted, &tried.sessions) {
            Ok(session) => return Ok(Holder::Here(session)),
            Err(none) => none,
        };
        let Some(cluster) = &self.cluster else { return Err(here) };
        cluster.find(wanted, &tried.nodes).map(Holder::There).map_err(|there| match (here, there) {
            (NoSession::Offline, NoSession::Offline) => NoSession::Offline,
            _ => NoSession::OtherKey,
        })
    }

    /// As [`Reach::pick`], but waits if an agent should be back soon, at most until `until`.
    ///
    /// # Errors
    /// [`NoSession`] if no agent came in time.
    pub async fn await_pick(
        &self,
        wanted: &Wanted,
        tried: &Tried,
        until: Instant,
    ) -> Result<Holder, NoSession> {
        let back_by = || {
            let elsewhere = self.cluster.as_ref().and_then(|cluster| cluster.back_by(wanted));
            Some(self.registry.back_by(wanted).max(elsewhere).max(tried.back_by)?.min(until))
        };
        self.wait_for(wanted, tried, back_by).await
    }

    /// As [`Reach::pick`], but waits until `until`, even if no agent is expected.
    ///
    /// # Errors
    /// [`NoSession`] if no agent came in time.
    pub async fn await_holder(
        &self,
        wanted: &Wanted,
        tried: &Tried,
        until: Instant,
    ) -> Result<Holder, NoSession> {
        self.wait_for(wanted, tried, || Some(until)).await
    }

    async fn wait_for(
        &self,
        wanted: &Wanted,
        tried: &Tried,
        back_by: impl Fn() -> Option<Instant>,
    ) -> Result<Holder, NoSession> {
        let none = match self.pick(wanted, tried) {
            Ok(holder) => return Ok(holder),
            Err(none) => none,
        };
        back_by().ok_or(none)?;
        let arrivals = self.registry.arrivals(&wanted.site);
        let mut changes = self.cluster.as_ref().map(|cluster| cluster.changes());
        loop {
            let mut arrival = std::pin::pin!(arrivals.notified());
            arrival.as_mut().enable();
            if let Some(changes) = &mut changes {
                changes.mark_unchanged();
            }
            // An agent that came before this loop began to wait has not woken it, so pick again.
            let none = match self.pick(wanted, tried) {
                Ok(holder) => return Ok(holder),
                Err(none) => none,
            };
            let until = back_by().ok_or(none)?;
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
