//! Who can have an agent of a site answer: a tunnel of this relay, or another relay that holds one.

use std::sync::Arc;

use audiovault_protocol::site::SiteId;
use tokio::time::{Instant, timeout_at};

use crate::{
    cluster::{Cluster, Node},
    tunnel::{
        registry::{NoSession, RETURN_TIME, Registry, Wanted},
        session::Session,
        view::SessionView,
    },
};

/// Whoever can have an agent answer.
#[derive(Debug, Clone)]
pub enum Holder {
    /// This relay, through a tunnel of its own.
    Here(Arc<Session>),
    /// Another relay.
    There(Node),
}

impl Holder {
    /// The session, or the relay, for the log.
    pub fn name(&self) -> &str {
        match self {
            Self::Here(session) => &session.id,
            Self::There(node) => &node.url,
        }
    }
}

/// Who was asked already.
#[derive(Debug, Default)]
pub struct Tried {
    sessions: Vec<Arc<Session>>,
    nodes: Vec<Node>,
    /// Until when an agent is waited for that another relay was believed to have.
    back_by: Option<Instant>,
}

impl Tried {
    /// Adds one.
    pub fn push(&mut self, holder: &Holder) {
        match holder {
            Holder::Here(session) => self.sessions.push(Arc::clone(session)),
            Holder::There(node) => self.nodes.push(node.clone()),
        }
    }

    /// The agent was not where it was believed to be. It is waited for as one whose tunnel broke at this moment, whatever is
    /// heard of that relay meanwhile.
    pub fn miss(&mut self, holder: &Holder) {
        if matches!(holder, Holder::There(Node { tunnel: Some(_), .. })) {
            self.back_by = Some(Instant::now() + RETURN_TIME);
        }
    }

    /// How many tunnels; relays that were asked whether they have one do not count.
    pub fn tunnels(&self) -> usize {
        self.sessions.len() + self.nodes.iter().filter(|node| node.tunnel.is_some()).count()
    }
}

/// The way to agents: through tunnels of this relay first, since another relay costs a hop.
#[derive(Debug, Clone)]
pub struct Reach {
    registry: Arc<Registry>,
    cluster: Option<Arc<Cluster>>,
}

impl Reach {
    /// To the agents of this relay, and to those of others where it does not stand alone.
    pub fn new(registry: Arc<Registry>, cluster: Option<Arc<Cluster>>) -> Self {
        Self { registry, cluster }
    }

    /// The other relays.
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

    /// Whether other relays have all agents of a site.
    pub fn is_elsewhere(&self, site: &SiteId) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.holds(site)) && !self.is_here(site)
    }

    /// The tunnels of a site, here and at other relays.
    pub async fn sessions(&self, site: &SiteId) -> Vec<SessionView> {
        let own_url = self.cluster.as_ref().map(|cluster| cluster.own_url());
        let here = self.registry.sessions(site);
        let mut all: Vec<_> = here.iter().map(|session| SessionView::of(session, own_url)).collect();
        if let Some(cluster) = &self.cluster {
            all.extend(cluster.sessions(site).await);
        }
        all
    }

    /// Whoever can have the wanted agent answer and is none of those that were `tried`.
    ///
    /// # Errors
    /// [`NoSession`].
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

    /// As [`Reach::pick`], but waits where an agent should be back soon, at most until a moment.
    ///
    /// # Errors
    /// [`NoSession`].
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

    /// As [`Reach::pick`], but waits until a moment, whether an agent is expected or not.
    ///
    /// # Errors
    /// [`NoSession`].
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
            // Whoever came before this was waited for has woken nobody.
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
