//! What the relays of a cluster report to each other about their sites once a second, so that the board of each shows
//! all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use audiovault_protocol::identity::site::SiteId;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{MissedTickBehavior, interval};

use super::{Cluster, Node, Unreachable};
use crate::{
    cluster::{
        minutes::Minutes,
        node_health::{NodeHealth, NodeView},
        part::{PartBook, PartsChange, SitePart},
    },
    limits::{Limits, LimitsQuestion, LimitsTold, UnderWay},
    tunnel::view::SessionView,
};

/// How often the peer relays are asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long they may take. The first time, they report all their sites.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest report of a relay, in bytes: a kilobyte for each of a quarter of a million sites.
const MAX_TOLD: usize = 256 << 20;

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
pub struct Telling {
    /// The health of the relay.
    pub health: NodeHealth,
    /// What has changed about its sites.
    pub change: PartsChange,
    /// The counts of limits that apply across the cluster.
    #[serde(default)]
    pub limits: LimitsTold,
}

#[derive(Debug)]
struct Heard {
    url: Arc<str>,
    health: NodeHealth,
    number: u64,
    limits: LimitsQuestion,
    under_way: UnderWay,
    parts: HashMap<SiteId, HeardPart>,
}

/// A site as a peer relay sees it.
#[derive(Debug, Default)]
struct HeardPart {
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
pub struct Others {
    limits: Arc<Limits>,
    own: Mutex<Own>,
    /// The reports of the peer relays, by their runs.
    heard: Mutex<HashMap<Arc<str>, Heard>>,
}

impl Others {
    pub(super) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, own: Mutex::default(), heard: Mutex::default() }
    }

    /// Stores what this relay sees of a site.
    pub fn publish(&self, site: &SiteId, part: SitePart, figures: bool) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).book.write(site, part, figures);
    }

    /// Stores the health of this relay.
    pub fn publish_health(&self, health: NodeHealth) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).health = health;
    }

    /// What this relay reports to a peer.
    pub fn tell(&self, question: &PartsQuestion) -> Telling {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        Telling {
            health: own.health.clone(),
            change: own.book.since(question.since),
            limits: self.limits.tell(&question.limits),
        }
    }

    /// Calls `see` with what each peer relay sees of a site, with its run and the traffic that it has counted.
    pub fn each(&self, site: &SiteId, mut see: impl FnMut(&Arc<str>, &SitePart, &Minutes)) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (run, other) in heard.iter() {
            if let Some(HeardPart { part, minutes }) = other.parts.get(site) {
                see(run, part, minutes);
            }
        }
    }

    /// The health of the peer relays.
    pub fn relays(&self) -> Vec<NodeView> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |other: &Heard| NodeView {
            url: other.url.to_string(),
            here: false,
            health: other.health.clone(),
        };
        heard.values().map(view).collect()
    }

    fn question(&self, node: &Node) -> PartsQuestion {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.get(&node.run).map(|other| (other.number, other.limits));
        let (since, limits) = known.unwrap_or_default();
        PartsQuestion { since, limits }
    }

    /// Applies the report of a relay that was asked for changes since a number. Reports may come twice, late and in
    /// any order: totals only grow, and apart from them a report that is older than what is known changes nothing.
    fn hear(&self, node: &Node, since: u64, telling: Telling) {
        let (limits, under_way) = self.limits.hear(telling.limits);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if since > heard.get(&node.run).map_or(0, |other| other.number) {
            // The relay was forgotten in the meantime, so earlier changes are missing: the next request asks for
            // everything.
            return;
        }
        let other = heard.entry(Arc::clone(&node.run)).or_insert_with(|| Heard {
            url: Arc::clone(&node.url),
            health: NodeHealth::default(),
            number: 0,
            limits: LimitsQuestion::default(),
            under_way: UnderWay::default(),
            parts: HashMap::new(),
        });
        let is_late = telling.change.number < other.number;
        for (site, mut part) in telling.change.parts {
            let known = other.parts.entry(site).or_default();
            for (minute, total) in std::mem::take(&mut part.minutes) {
                known.minutes.raise(minute, total);
            }
            if !is_late {
                known.part = part;
            }
        }
        if !is_late {
            other.health = telling.health;
            other.number = telling.change.number;
            other.limits = limits;
            other.under_way = under_way;
        }
    }

    /// Forgets relays that are lost.
    fn keep(&self, nodes: &[Node]) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|run, _| nodes.iter().any(|node| node.run == *run));
    }

    /// Passes the running requests of all peer relays to the limits.
    fn count_under_way(&self) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        self.limits.hear_under_way(heard.values().map(|other| &other.under_way));
    }
}

impl Cluster {
    /// Asks the peer relays for their reports, for as long as this relay runs.
    pub(super) async fn keep_hearing(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let nodes: Vec<Node> = self.lock().nodes().collect();
            self.others.keep(&nodes);
            join_all(nodes.iter().map(|node| self.hear(node))).await;
            self.others.count_under_way();
        }
    }

    async fn hear(&self, node: &Node) {
        let question = self.others.question(node);
        match self.ask(node, "/parts", &question).await {
            Ok(telling) => self.others.hear(node, question.since, telling),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(node = %node.url, error, "a relay tells nothing of its sites");
            }
        }
    }

    /// The tunnels of a site at all peer relays; those of a relay that does not answer are missing.
    pub async fn sessions(&self, site: &SiteId) -> Vec<SessionView> {
        let nodes: Vec<Node> = self.lock().nodes().collect();
        let question = SessionsQuestion { site: site.clone() };
        let told =
            join_all(nodes.iter().map(|node| self.ask::<Vec<SessionView>>(node, "/sessions", &question)));
        told.await.into_iter().filter_map(Result::ok).flatten().collect()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        node: &Node,
        path: &'static str,
        question: &impl Serialize,
    ) -> Result<T, Unreachable> {
        // Names and numbers always serialize.
        let question = Bytes::from(serde_json::to_vec(question).unwrap_or_default());
        let response = self.client.ask(node, path, question, PATIENCE).await?;
        let status = response.status();
        let stranger = || Unreachable::Stranger(status);
        let told = Limited::new(response.into_body(), MAX_TOLD).collect().await.map_err(|_| stranger())?;
        serde_json::from_slice(&told.to_bytes()).map_err(|_| stranger())
    }
}

#[cfg(test)]
mod tests;
