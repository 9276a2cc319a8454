//! What the relays of a cluster report to each other about their sites once a second, so that the board of each shows
//! all of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use audiovault_protocol::identity::site::SiteId;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{MissedTickBehavior, interval};

use super::{Cluster, Node, NodeHealth, NodeView, Unreachable, part::Minutes};
use crate::{
    cluster::part::{PartBook, PartsChange, SitePart},
    limits::{Limits, LimitsQuestion, LimitsReport, UnderWay},
    tunnel::view::SessionView,
};

/// How often the peer relays are asked.
const GOSSIP_INTERVAL: Duration = Duration::from_secs(1);
/// How long they may take. The first time, they report all their sites.
const GOSSIP_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest report of a relay, in bytes: a kilobyte for each of a quarter of a million sites.
const MAX_REPORT_LEN: usize = 256 << 20;

/// Asks a relay for what has changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PartsQuestion {
    /// The number of the latest change that is known.
    pub since: u64,
    /// What is known of the limits that count across the cluster.
    #[serde(default)]
    pub limits: LimitsQuestion,
}

/// Asks a relay for the tunnels of a site.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionsQuestion {
    /// The site.
    pub site: SiteId,
}

/// The report of a relay.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// The health of the relay.
    pub health: NodeHealth,
    /// What has changed about its sites.
    pub change: PartsChange,
    /// The counts of limits that apply across the cluster.
    #[serde(default)]
    pub limits: LimitsReport,
}

#[derive(Debug)]
struct PeerState {
    url: Arc<str>,
    health: NodeHealth,
    number: u64,
    limits: LimitsQuestion,
    under_way: UnderWay,
    parts: HashMap<SiteId, PeerPart>,
}

/// A site as a peer relay sees it.
#[derive(Debug, Default)]
struct PeerPart {
    part: SitePart,
    /// The traffic that its run has counted.
    minutes: Minutes,
}

#[derive(Debug, Default)]
struct Own {
    book: PartBook,
    health: NodeHealth,
}

/// What the peer relays report, and what this relay reports to them.
#[derive(Debug)]
pub struct Gossip {
    limits: Arc<Limits>,
    own: Mutex<Own>,
    /// The reports of the peer relays, by their runs.
    peers: Mutex<HashMap<Arc<str>, PeerState>>,
}

impl Gossip {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, own: Mutex::default(), peers: Mutex::default() }
    }

    /// Stores what this relay sees of a site.
    pub fn publish(&self, site: &SiteId, part: SitePart, figures: bool) {
        self.own.lock().book.write(site, part, figures);
    }

    /// Stores the health of this relay.
    pub fn publish_health(&self, health: NodeHealth) {
        self.own.lock().health = health;
    }

    /// What this relay reports to a peer.
    pub fn report(&self, question: &PartsQuestion) -> NodeReport {
        let own = self.own.lock();
        NodeReport {
            health: own.health.clone(),
            change: own.book.since(question.since),
            limits: self.limits.report(&question.limits),
        }
    }

    /// Calls `see` with what each peer relay sees of a site, with its run and the traffic that it has counted.
    pub fn each(&self, site: &SiteId, mut see: impl FnMut(&Arc<str>, &SitePart, &Minutes)) {
        let peers = self.peers.lock();
        for (run, peer) in peers.iter() {
            if let Some(PeerPart { part, minutes }) = peer.parts.get(site) {
                see(run, part, minutes);
            }
        }
    }

    /// The health of the peer relays.
    pub fn relays(&self) -> Vec<NodeView> {
        let peers = self.peers.lock();
        let view = |peer: &PeerState| NodeView {
            url: peer.url.to_string(),
            here: false,
            health: peer.health.clone(),
        };
        peers.values().map(view).collect()
    }

    fn question(&self, node: &Node) -> PartsQuestion {
        let peers = self.peers.lock();
        let known = peers.get(&node.run).map(|peer| (peer.number, peer.limits));
        let (since, limits) = known.unwrap_or_default();
        PartsQuestion { since, limits }
    }

    /// Applies the report of a relay that was asked for changes since a number. Reports may come twice, late and in
    /// any order: totals only grow, and apart from them a report that is older than what is known changes nothing.
    fn apply(&self, node: &Node, since: u64, report: NodeReport) {
        let (limits, under_way) = self.limits.apply(report.limits);
        let mut peers = self.peers.lock();
        if since > peers.get(&node.run).map_or(0, |peer| peer.number) {
            // The relay was forgotten in the meantime, so earlier changes are missing: the next request asks for
            // everything.
            return;
        }
        let peer = peers.entry(Arc::clone(&node.run)).or_insert_with(|| PeerState {
            url: Arc::clone(&node.url),
            health: NodeHealth::default(),
            number: 0,
            limits: LimitsQuestion::default(),
            under_way: UnderWay::default(),
            parts: HashMap::new(),
        });
        let is_late = report.change.number < peer.number;
        for (site, mut part) in report.change.parts {
            let known = peer.parts.entry(site).or_default();
            for (minute, total) in std::mem::take(&mut part.minutes) {
                known.minutes.raise(minute, total);
            }
            if !is_late {
                known.part = part;
            }
        }
        if !is_late {
            peer.health = report.health;
            peer.number = report.change.number;
            peer.limits = limits;
            peer.under_way = under_way;
        }
    }

    /// Forgets relays that are lost.
    fn keep(&self, nodes: &[Node]) {
        let mut peers = self.peers.lock();
        peers.retain(|run, _| nodes.iter().any(|node| node.run == *run));
    }

    /// Passes the running requests of all peer relays to the limits.
    fn count_under_way(&self) {
        let peers = self.peers.lock();
        self.limits.apply_under_way(peers.values().map(|peer| &peer.under_way));
    }
}

impl Cluster {
    /// Asks the peer relays for their reports, for as long as this relay runs.
    pub(super) async fn keep_asking(self: Arc<Self>) {
        let mut ticks = interval(GOSSIP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let nodes: Vec<Node> = self.lock().nodes().collect();
            self.gossip.keep(&nodes);
            join_all(nodes.iter().map(|node| self.apply(node))).await;
            self.gossip.count_under_way();
        }
    }

    async fn apply(&self, node: &Node) {
        let question = self.gossip.question(node);
        match self.ask(node, "/parts", &question).await {
            Ok(report) => self.gossip.apply(node, question.since, report),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(node = %node.url, error, "a peer relay did not report its sites");
            }
        }
    }

    /// The tunnels of a site at all peer relays; those of a relay that does not answer are missing.
    pub async fn sessions(&self, site: &SiteId) -> Vec<SessionView> {
        let nodes: Vec<Node> = self.lock().nodes().collect();
        let question = SessionsQuestion { site: site.clone() };
        let report =
            join_all(nodes.iter().map(|node| self.ask::<Vec<SessionView>>(node, "/sessions", &question)));
        report.await.into_iter().filter_map(Result::ok).flatten().collect()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        node: &Node,
        path: &'static str,
        question: &impl Serialize,
    ) -> Result<T, Unreachable> {
        // Names and numbers always serialize.
        let question = Bytes::from(serde_json::to_vec(question).unwrap_or_default());
        let response = self.client.ask(node, path, question, GOSSIP_TIMEOUT).await?;
        let status = response.status();
        let unexpected = || Unreachable::UnexpectedAnswer(status);
        let report =
            Limited::new(response.into_body(), MAX_REPORT_LEN).collect().await.map_err(|_| unexpected())?;
        serde_json::from_slice(&report.to_bytes()).map_err(|_| unexpected())
    }
}

#[cfg(test)]
mod tests;
