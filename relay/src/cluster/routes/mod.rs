//! The table of which relay holds which tunnel, in memory: requests are routed by it.
//!
//! Pure: it reads no clock and no database. A relay whose lease is not renewed is lost with all its routes at once,
//! without a look at any of them. The routes stay in the table until the relay reports again or everything is read
//! again.

mod table;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use audiovault_protocol::identity::{signed_link::LinkKeyId, site::SiteId};
use tokio::time::Instant;

use self::table::{PARTS, Route, Table, part_of, session_id};
pub use self::table::{Part, Places, Reading, SessionId};
use crate::{
    store::{NodeRecord, RouteChange, RouteRecord},
    tunnel::registry::{Absence, AgentTarget, NoSession, RETURN_TIME},
};

/// A lease that was not renewed for this long has expired: five renewals did not come.
pub const LEASE: Duration = Duration::from_secs(5);

/// A peer relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its run: a relay that restarts is another node.
    pub run: Arc<str>,
    /// The address under which its peers reach it.
    pub url: Arc<str>,
    /// The tunnel for which it was chosen, if it is known to have one.
    pub tunnel: Option<SessionId>,
}

#[derive(Debug)]
struct Known {
    /// Empty if a relay was forgotten: another one may take its index.
    run: Arc<str>,
    /// `None` until its lease was read: news of a tunnel may come before news of its relay.
    url: Option<Arc<str>>,
    lease_ms: i64,
    /// When its lease was last seen to be renewed.
    renewed: Instant,
    /// Since when it counts as lost.
    lost: Option<Instant>,
    /// Set if it is lost because it did not answer.
    failure: Option<Failure>,
}

/// A relay did not answer this one. This outweighs every lease that may have been written before: only a renewal
/// between two readings that both began after the failure proves that the relay is alive.
#[derive(Debug, Clone, Copy)]
struct Failure {
    /// When it last failed to answer.
    at: Instant,
    /// The lease as the first reading after that found it, in milliseconds by the server's clock.
    lease_ms: Option<i64>,
}

/// The leases of all peer relays, as they were read.
#[derive(Debug, Default)]
pub struct LeaseReading {
    /// The address and the lease of each relay.
    pub records: Vec<NodeRecord>,
    /// The server could not be reached before, so the relays may have been unable to renew.
    pub after_gap: bool,
}

/// Which peer relays have come or gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NodeNews {
    /// Relays that were not here before.
    pub came: Vec<Node>,
    /// Relays that have not renewed their lease, or have said that they stop.
    pub lost: Vec<Node>,
}

/// The routes to all tunnels of peer relays.
#[derive(Debug, Default)]
pub struct Routes {
    nodes: Vec<Known>,
    table: Table,
    /// Agents that should be back soon, at any relay.
    absences: HashMap<SiteId, Absence>,
    /// How many times a node was chosen, so that they take turns.
    choices: usize,
    /// What was announced since a reading of everything began: the reading may have missed it.
    since_reading: Option<Since>,
}

#[derive(Debug)]
struct Since {
    /// The changes, by the parts of the table.
    changes: Vec<Vec<RouteChange>>,
    /// Relays at which tunnels were opened.
    nodes: BTreeSet<u32>,
}

impl Routes {
    /// A relay that has the wanted agent on another tunnel than those `tried`. If there are several, they take turns.
    ///
    /// # Errors
    /// [`NoSession`] if there is none.
    pub fn find(&mut self, target: &AgentTarget, tried: &[Node]) -> Result<Node, NoSession> {
        let was_tried = |route: &Route| tried.iter().any(|node| node.tunnel == Some(route.session));
        let reachable = self.table.get(&target.site).iter().filter_map(|route| {
            let known = self.nodes.get(route.node as usize)?;
            let url = known.url.as_ref().filter(|_| known.lost.is_none() && !was_tried(route))?;
            let run = Arc::clone(&known.run);
            let tunnel = Some(route.session);
            Some((route, Node { run, url: Arc::clone(url), tunnel }))
        });
        let reachable: Vec<_> = reachable.collect();
        if reachable.is_empty() {
            return Err(NoSession::Offline);
        }
        let holds = |route: &Route| target.key.is_none_or(|key| route.key == key);
        let mut nodes: Vec<Node> =
            reachable.into_iter().filter(|(route, _)| holds(route)).map(|(_, node)| node).collect();
        if nodes.is_empty() {
            return Err(NoSession::OtherKey);
        }
        self.choices = self.choices.wrapping_add(1);
        Ok(nodes.swap_remove(self.choices % nodes.len()))
    }

    /// Until when requests may wait for the wanted agent: it was connected a moment ago to a relay that lost it or is
    /// itself lost, or it is connected to a relay whose address is not known yet.
    pub fn returns_by(&self, target: &AgentTarget, now: Instant) -> Option<Instant> {
        let missed = self.absences.get(&target.site).and_then(|absence| absence.until(target.key, now));
        let routes =
            self.table.get(&target.site).iter().filter(|route| target.key.is_none_or(|key| route.key == key));
        let returns_by = routes.filter_map(|route| {
            let known = self.nodes.get(route.node as usize)?;
            let unknown = known.url.is_none().then(|| known.renewed + LEASE);
            known.lost.map(|lost| lost + RETURN_TIME).or(unknown)
        });
        returns_by.filter(|until| *until > now).chain(missed).max()
    }

    /// Whether a peer relay that is not lost holds a tunnel of a site.
    pub fn holds(&self, site: &SiteId) -> bool {
        self.table.get(site).iter().any(|route| self.is_live(route))
    }

    /// The number of tunnels of each relay that is not lost.
    pub fn counts(&self) -> Vec<usize> {
        let live =
            self.nodes.iter().enumerate().filter(|(_, known)| known.lost.is_none() && known.url.is_some());
        live.map(|(at, _)| self.table.count(at)).collect()
    }

    /// Whether a relay is lost, or was never here.
    pub fn is_lost(&self, run: &str) -> bool {
        self.nodes.iter().find(|known| *known.run == *run).is_none_or(|known| known.lost.is_some())
    }

    /// Every relay that is not lost.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.nodes.iter().filter(|known| known.lost.is_none()).filter_map(Known::node)
    }

    /// The number of sites with routes, and the number of routes.
    pub fn len(&self) -> (usize, usize) {
        self.table.len()
    }

    /// Applies a reading of all leases that began at `begun`. Leases do not expire during a gap, because no relay
    /// could renew them.
    pub fn apply_leases(&mut self, reading: LeaseReading, begun: Instant, now: Instant) -> NodeNews {
        let mut news = NodeNews::default();
        let mut renewed_now = vec![false; self.nodes.len()];
        for record in reading.records {
            let at = self.index(&record.run, now);
            renewed_now.resize(self.nodes.len(), false);
            renewed_now[at as usize] = true;
            let known = &mut self.nodes[at as usize];
            if known.take_lease(record, reading.after_gap, begun, now) {
                news.came.extend(known.node());
            }
        }
        for (known, renewed_now) in self.nodes.iter_mut().zip(renewed_now) {
            let over = !renewed_now || now.duration_since(known.renewed) >= LEASE;
            // A relay whose lease was not read yet has as long as a lease for it.
            let over = over && (known.url.is_some() || now.duration_since(known.renewed) >= LEASE);
            if over && known.lost.is_none() {
                known.lost = Some(now);
                news.lost.extend(known.node());
            }
        }
        news
    }

    /// A relay did not answer: it is lost until it renews its lease after this. Returns whether it was not lost
    /// before.
    pub fn suspect(&mut self, run: &str, now: Instant) -> bool {
        let known = self.nodes.iter_mut().find(|known| *known.run == *run);
        known.is_some_and(|known| {
            known.failure = Some(Failure { at: now, lease_ms: None });
            let is_news = known.lost.is_none();
            known.lost.get_or_insert(now);
            is_news
        })
    }

    /// No lease can be renewed because the database is unreachable. A relay that failed to answer is tried again after
    /// as long as a lease.
    pub fn leases_unreadable(&mut self, now: Instant) {
        for known in &mut self.nodes {
            if known.failure.is_some_and(|failure| now.duration_since(failure.at) >= LEASE) {
                known.failure = None;
                known.lost = None;
            }
        }
    }

    /// A relay says that it has none of the wanted agents. Returns whether it was thought to have one.
    pub fn stale(&mut self, run: &str, target: &AgentTarget, now: Instant) -> bool {
        let Some(at) = self.nodes.iter().position(|known| *known.run == *run) else { return false };
        let gone = |route: &Route| route.node as usize == at && target.key.is_none_or(|key| route.key == key);
        self.remove(&target.site, gone, true, now)
    }

    /// Agents that were lost a moment ago should be back soon.
    pub fn expect(&mut self, missed: Vec<(SiteId, LinkKeyId)>, now: Instant) {
        for (site, key) in missed {
            if !self.serves(&site, key) {
                self.miss(&site, key, now);
            }
        }
    }

    /// Called before everything is read.
    pub fn begin_reading(&mut self) {
        self.since_reading = Some(Since { changes: vec![Vec::new(); PARTS], nodes: BTreeSet::new() });
    }

    /// Applies a change that was announced.
    pub fn apply(&mut self, change: RouteChange, own_run: &str, now: Instant) {
        if let Some(since) = &mut self.since_reading {
            let (RouteChange::Opened(RouteRecord { site, .. }) | RouteChange::Closed { site, .. }) = &change;
            since.changes[part_of(site)].push(change.clone());
        }
        self.enact(change, own_run, now);
    }

    fn enact(&mut self, change: RouteChange, own_run: &str, now: Instant) {
        match change {
            RouteChange::Opened(record) if record.run == own_run => {
                // The agent is back, at this relay.
                self.came(&record.site, record.key);
            }
            RouteChange::Opened(record) => {
                let node = self.index(&record.run, now);
                if let Some(since) = &mut self.since_reading {
                    since.nodes.insert(node);
                }
                // News of a lost relay is late: its agent is still missing.
                if self.nodes.get(node as usize).is_some_and(|known| known.lost.is_none()) {
                    self.came(&record.site, record.key);
                }
                self.table.add(record, node);
            }
            RouteChange::Closed { site, session, back_soon } => {
                if let Some(session) = session_id(&session) {
                    self.remove(&site, |route| route.session == session, back_soon, now);
                }
            }
        }
    }

    /// Replaces all routes by what was read since [`Routes::begin_reading`] and by what was announced in the meantime,
    /// in one step. A caller that must not block that long does the same in steps: [`Routes::places`],
    /// [`Routes::replace_part`] for each of [`Reading::parts`], and [`Routes::end_reading`].
    pub fn replace(&mut self, read: Reading, own_run: &str, now: Instant) {
        let places = self.places(&read, now);
        for part in read.parts(&places) {
            self.replace_part(part, own_run, now);
        }
        self.end_reading(&places, now);
    }

    /// The index of each relay of a reading, valid until the reading ends.
    pub fn places(&mut self, read: &Reading, now: Instant) -> Places {
        Places(read.runs.iter().map(|run| self.index(run, now)).collect())
    }

    /// Replaces a part by what was read and by what was announced for it in the meantime. Returns the old part for the
    /// caller to drop, which takes as long as this.
    pub fn replace_part(&mut self, part: Part, own_run: &str, now: Instant) -> Part {
        let before = self.table.replace(part);
        let renewed_now =
            self.since_reading.as_mut().map(|since| std::mem::take(&mut since.changes[before.at()]));
        for change in renewed_now.into_iter().flatten() {
            self.enact(change, own_run, now);
        }
        for (site, routes) in before.sites() {
            for route in routes {
                let still = self.table.get(site).contains(route);
                if !still && self.is_live(route) && !self.serves(site, route.key) {
                    self.miss(site, route.key, now);
                }
            }
        }
        before
    }

    /// Ends a reading when all parts are in place. Forgets lost relays without routes, because every start of a relay
    /// makes a new node, but not before their last lease has expired: until then a reading of the leases would take
    /// them for new.
    pub fn end_reading(&mut self, places: &Places, now: Instant) {
        let opened = self.since_reading.take().map(|since| since.nodes).unwrap_or_default();
        let used: BTreeSet<u32> = places.0.iter().copied().chain(opened).collect();
        for (at, known) in (0..).zip(&mut self.nodes) {
            let is_over = known.lost.is_some_and(|since| now.duration_since(since) >= LEASE);
            if is_over && !used.contains(&at) {
                *known = Known::new(Arc::default(), now);
            }
        }
        self.absences.retain(|_, absence| absence.until(None, now).is_some());
    }

    /// Removes routes of a site. If no other route has their key, requests wait for their agent. Returns whether there
    /// were any.
    fn remove(
        &mut self,
        site: &SiteId,
        gone: impl Fn(&Route) -> bool,
        back_soon: bool,
        now: Instant,
    ) -> bool {
        let left = self.table.remove(site, gone);
        for route in left.iter().filter(|_| back_soon) {
            if !self.serves(site, route.key) {
                self.miss(site, route.key, now);
            }
        }
        !left.is_empty()
    }

    fn miss(&mut self, site: &SiteId, key: LinkKeyId, now: Instant) {
        self.absences.entry(site.clone()).or_default().miss(Some(key), now + RETURN_TIME, now);
    }

    fn came(&mut self, site: &SiteId, key: LinkKeyId) {
        if let Some(absence) = self.absences.get_mut(site) {
            absence.came(key);
        }
    }

    /// Whether a relay that is not lost has a tunnel with this key.
    fn serves(&self, site: &SiteId, key: LinkKeyId) -> bool {
        self.table.get(site).iter().any(|route| route.key == key && self.is_live(route))
    }

    fn is_live(&self, route: &Route) -> bool {
        self.nodes.get(route.node as usize).is_some_and(|known| known.lost.is_none())
    }

    /// The index of a run among the nodes. Adds the run if it is new.
    fn index(&mut self, run: &str, now: Instant) -> u32 {
        let place = |target: &str| self.nodes.iter().position(|known| *known.run == *target);
        let known = place(run);
        let free = place("");
        let at = known.or(free).unwrap_or(self.nodes.len());
        if known.is_none() {
            let new = Known::new(run.into(), now);
            match free {
                Some(free) => self.nodes[free] = new,
                None => self.nodes.push(new),
            }
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

impl Known {
    fn new(run: Arc<str>, now: Instant) -> Self {
        Self { run, url: None, lease_ms: 0, renewed: now, lost: None, failure: None }
    }

    /// Applies a relay's lease from a reading that began at `begun`. Returns whether the relay is back, or here for
    /// the first time.
    fn take_lease(&mut self, record: NodeRecord, after_gap: bool, begun: Instant, now: Instant) -> bool {
        let is_new = self.url.is_none();
        if self.url.as_deref() != Some(record.url.as_str()) {
            self.url = Some(record.url.into());
        }
        let is_renewed = std::mem::replace(&mut self.lease_ms, record.lease_ms) != record.lease_ms;
        if let Some(failure) = &mut self.failure {
            if begun < failure.at {
                return false;
            }
            if *failure.lease_ms.get_or_insert(record.lease_ms) == record.lease_ms {
                return false;
            }
            self.failure = None;
        } else if is_new && record.lease_age >= LEASE && !after_gap {
            // Its run ended long ago without saying so.
            self.lost = Some(now.checked_sub(record.lease_age).unwrap_or(now));
            return false;
        } else if !is_renewed && !after_gap {
            return false;
        }
        self.renewed = now;
        self.lost.take().is_some() || is_new
    }

    fn node(&self) -> Option<Node> {
        Some(Node { run: Arc::clone(&self.run), url: Arc::clone(self.url.as_ref()?), tunnel: None })
    }
}

#[cfg(test)]
mod tests;
