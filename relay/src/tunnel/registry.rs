//! The registry of connected agents, with the traffic counters of each site, and the agents that were connected a
//! moment ago: requests wait for their return instead of being refused.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use audiovault_protocol::{
    flow::credit::WindowBudget,
    identity::{signed_link::LinkKeyId, site::SiteId},
    limits::PROCESS_WINDOW_BUDGET,
};
use jiff::Timestamp;
use parking_lot::RwLock;
use tokio::{sync::Notify, time::Instant};

use super::session::{Session, reconnect_window};
use crate::{
    audit::journal::OpenTunnels,
    limits::SiteMaximum,
    store::{Traffic, TunnelOpened},
};

/// Counters of one site since this process started.
#[derive(Debug, Default)]
pub struct SiteCounters {
    /// Searches that were received.
    pub searches: AtomicU64,
    /// Requests that ended in a server error (status 500 and above).
    pub errors: AtomicU64,
    /// Bytes of recordings handed to clients' connections.
    pub bytes_delivered: AtomicU64,
    /// When an agent was last seen, in milliseconds since the Unix epoch; 0 for never.
    last_seen_ms: AtomicU64,
}

impl SiteCounters {
    /// The counters as they are now.
    pub fn totals(&self) -> Traffic {
        Traffic {
            searches: self.searches.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes: self.bytes_delivered.load(Ordering::Relaxed),
        }
    }

    /// When an agent of the site was last connected, or `None` if never.
    pub fn last_seen(&self) -> Option<Timestamp> {
        let ms = self.last_seen_ms.load(Ordering::Relaxed);
        let ms = i64::try_from(ms).ok().filter(|ms| *ms > 0)?;
        Timestamp::from_millisecond(ms).ok()
    }

    fn saw_agent(&self) {
        let ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        self.last_seen_ms.store(ms, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Entry {
    sessions: Vec<Arc<Session>>,
    absence: Absence,
    /// Wakes the requests that wait for an agent.
    arrived: Arc<Notify>,
    counters: Arc<SiteCounters>,
}

/// Which agent a request needs.
#[derive(Debug, Clone)]
pub struct AgentTarget {
    /// The site whose recordings are requested.
    pub site: SiteId,
    /// The id of the key that made the link to open, or `None` for a search, which any agent can answer.
    pub key: Option<LinkKeyId>,
}

/// Why no agent can take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSession {
    /// No agent of the site is connected.
    Offline,
    /// Agents are connected, but none of them made the link.
    OtherKey,
}

impl Entry {
    /// Whether a session may be added.
    fn has_room(&self, session: &Session, maximum: SiteMaximum) -> Result<(), SiteFull> {
        let others = self.sessions.iter().filter(|old| old.takes_requests() && !old.is_same_agent(session));
        let instances: HashSet<&str> = others.clone().map(|old| old.hello.instance.as_str()).collect();
        if others.count() >= maximum.tunnels as usize {
            return Err(SiteFull::Tunnels(maximum.tunnels));
        }
        if !instances.contains(session.hello.instance.as_str()) && instances.len() >= maximum.agents as usize
        {
            return Err(SiteFull::Agents(maximum.agents));
        }
        Ok(())
    }

    fn miss(&mut self, key: Option<LinkKeyId>) {
        let now = Instant::now();
        self.absence.miss(key, now + RETURN_TIME, now);
    }
}

/// The site has reached its maximum at this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SiteFull {
    /// The maximum number of tunnels.
    #[error(
        "this site already has its maximum of {0} tunnels; stop an agent, or ask the relay's operator for more"
    )]
    Tunnels(u32),
    /// The maximum number of agents.
    #[error(
        "this site already has its maximum of {0} agents; stop one, or ask the relay's operator for more"
    )]
    Agents(u32),
}

impl SiteFull {
    /// The flag that raises the maximum.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Tunnels(_) => "--max-site-tunnels",
            Self::Agents(_) => "--max-site-agents",
        }
    }
}

/// All sessions of this relay process.
#[derive(Debug)]
pub struct Registry {
    sites: RwLock<HashMap<SiteId, Entry>>,
    site_maximum: SiteMaximum,
    window_budget: Arc<WindowBudget>,
    /// How many times a session was chosen, over all sites.
    choices: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(PROCESS_WINDOW_BUDGET, SiteMaximum::UNLIMITED)
    }
}

impl Registry {
    /// An empty registry. The windows of all tunnels share a budget of `window_budget` bytes.
    pub fn new(window_budget: u64, site_maximum: SiteMaximum) -> Self {
        Self {
            sites: RwLock::default(),
            site_maximum,
            window_budget: WindowBudget::new(window_budget),
            choices: AtomicU64::new(0),
        }
    }

    /// The budget that the windows of all tunnels share.
    pub fn window_budget(&self) -> Arc<WindowBudget> {
        Arc::clone(&self.window_budget)
    }

    /// Adds a session. It replaces an older session of the same connection slot of the same agent. The lock on all
    /// sites is held while `welcome` runs, so that the agent is welcomed before a request can reach it; `welcome` must
    /// only queue a message.
    ///
    /// # Errors
    /// [`SiteFull`]. Tunnels that are draining do not count.
    pub fn add(&self, session: Arc<Session>, welcome: impl FnOnce(&Session)) -> Result<(), SiteFull> {
        let mut sites = self.sites.write();
        let entry = sites.entry(session.site.clone()).or_default();
        entry.has_room(&session, self.site_maximum)?;
        welcome(&session);
        entry.counters.saw_agent();
        for old in entry.sessions.iter().filter(|old| old.is_same_agent(&session)) {
            old.give_way(&session.hello);
        }
        entry.absence.came(session.hello.link_key_id);
        entry.sessions.push(session);
        entry.arrived.notify_waiters();
        Ok(())
    }

    /// Removes a session that has ended. If its agent should be back soon, requests wait for it.
    pub fn remove(&self, session: &Arc<Session>, back_soon: bool) {
        let mut sites = self.sites.write();
        if let Some(entry) = sites.get_mut(&session.site) {
            entry.sessions.retain(|other| !Arc::ptr_eq(other, session));
            entry.counters.saw_agent();
            // An agent whose session was replaced is back already.
            if back_soon && !entry.sessions.iter().any(|other| other.is_same_agent(session)) {
                entry.miss(Some(session.hello.link_key_id));
            }
        }
    }

    /// Makes requests of these sites wait for an agent that was connected to this relay before the relay restarted.
    pub fn expect(&self, expected: impl IntoIterator<Item = SiteId>) {
        let mut sites = self.sites.write();
        for site in expected {
            sites.entry(site).or_default().miss(None);
        }
    }

    /// An agent that can take the request and is not among those `tried`.
    ///
    /// # Errors
    /// [`NoSession`] if there is none.
    pub fn pick(&self, target: &AgentTarget, tried: &[Arc<Session>]) -> Result<Arc<Session>, NoSession> {
        let was_tried = |session: &Arc<Session>| tried.iter().any(|other| Arc::ptr_eq(other, session));
        let sites = self.sites.read();
        let entry = sites.get(&target.site).ok_or(NoSession::Offline)?;
        let sessions = entry.sessions.iter().filter(|session| session.takes_requests());
        let mut sessions = sessions.filter(|session| !was_tried(session)).peekable();
        if sessions.peek().is_none() {
            return Err(NoSession::Offline);
        }
        let holds = |session: &&Arc<Session>| target.key.is_none_or(|key| session.hello.link_key_id == key);
        self.idlest(sessions.filter(holds)).ok_or(NoSession::OtherKey)
    }

    /// Until when requests may wait for the wanted agent because its tunnel broke a moment ago.
    pub fn returns_by(&self, target: &AgentTarget) -> Option<Instant> {
        let sites = self.sites.read();
        sites.get(&target.site)?.absence.until(target.key, Instant::now())
    }

    /// Notifies requests that wait for an agent of the site.
    pub fn arrivals(&self, site: &SiteId) -> Arc<Notify> {
        self.entry(site, |entry| Arc::clone(&entry.arrived))
    }

    /// The session with the fewest open streams; a silent session is chosen only if all are silent. Among equals, the
    /// one that was not chosen for the longest time, so that requests that come one at a time are spread as well.
    fn idlest<'a>(&self, sessions: impl Iterator<Item = &'a Arc<Session>>) -> Option<Arc<Session>> {
        let chosen = sessions.min_by_key(|session| {
            (session.caller.is_silent(), session.caller.open_streams(), session.last_chosen())
        })?;
        chosen.choose(self.choices.fetch_add(1, Ordering::Relaxed) + 1);
        Some(Arc::clone(chosen))
    }

    /// The sessions of a site, in the order in which they came.
    pub fn sessions(&self, site: &SiteId) -> Vec<Arc<Session>> {
        let sites = self.sites.read();
        sites.get(site).map(|entry| entry.sessions.clone()).unwrap_or_default()
    }

    /// Whether an agent of a site is connected.
    pub fn has_session(&self, site: &SiteId) -> bool {
        self.sites.read().get(site).is_some_and(|entry| !entry.sessions.is_empty())
    }

    /// The counters of a site.
    pub fn counters(&self, site: &SiteId) -> Arc<SiteCounters> {
        self.entry(site, |entry| Arc::clone(&entry.counters))
    }

    /// Reads a site's entry; creates it if there is none.
    fn entry<T>(&self, site: &SiteId, take: impl Fn(&Entry) -> T) -> T {
        if let Some(entry) = self.sites.read().get(site) {
            return take(entry);
        }
        let mut sites = self.sites.write();
        take(sites.entry(site.clone()).or_default())
    }

    /// The counters of every site seen so far, in the order of the site names. Relays that share a database write
    /// their counters in the same order, and so never wait for each other.
    pub fn all_counters(&self) -> Vec<(SiteId, Arc<SiteCounters>)> {
        let sites = self.sites.read();
        let mut all: Vec<_> =
            sites.iter().map(|(site, entry)| (site.clone(), Arc::clone(&entry.counters))).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// Whether any agent is connected.
    pub fn is_in_use(&self) -> bool {
        let sites = self.sites.read();
        sites.values().any(|entry| !entry.sessions.is_empty())
    }

    /// The sessions that take requests, the one with the fewest open streams first.
    pub fn idlest_first(&self) -> Vec<Arc<Session>> {
        let sites = self.sites.read();
        let all = sites.values().flat_map(|entry| &entry.sessions).filter(|session| session.takes_requests());
        let mut all: Vec<_> =
            all.map(|session| (session.caller.open_streams(), Arc::clone(session))).collect();
        drop(sites);
        all.sort_by_key(|(streams, _)| *streams);
        all.into_iter().map(|(_, session)| session).collect()
    }

    /// All sessions.
    pub fn all_sessions(&self) -> Vec<Arc<Session>> {
        let sites = self.sites.read();
        sites.values().flat_map(|entry| &entry.sessions).cloned().collect()
    }

    /// How many agents are connected.
    pub fn count(&self) -> usize {
        let sites = self.sites.read();
        sites.values().map(|entry| entry.sessions.len()).sum()
    }

    /// Asks every agent to dial again, spread so that a successor can admit them at `accept_rate` per second. Open
    /// requests finish.
    pub fn leave_all(&self, reason: &str, accept_rate: u32) {
        let sites = self.sites.read();
        let sessions = || sites.values().flat_map(|entry| &entry.sessions);
        let window = reconnect_window(sessions().count(), accept_rate);
        sessions().for_each(|session| session.leave(reason, window));
    }
}

impl OpenTunnels for Registry {
    fn opened(&self, run: &str) -> Vec<TunnelOpened> {
        self.all_sessions().iter().map(|session| session.opened(run)).collect()
    }

    fn is_open(&self, site: &SiteId, session: &str) -> bool {
        self.sessions(site).iter().any(|open| open.id == session)
    }

    fn traffic(&self) -> Vec<(SiteId, Traffic)> {
        self.all_counters().into_iter().map(|(site, counters)| (site, counters.totals())).collect()
    }
}

/// How long requests wait for an agent whose tunnel broke. The agent dials again after half a second on average, and
/// is admitted even if others dial at the same time. If an agent needs longer, an error is better than more waiting.
pub(crate) const RETURN_TIME: Duration = Duration::from_secs(8);

/// Most absent agents of one site that are remembered at a time. A site has a few; if there are more, the oldest is
/// dropped.
const MOST: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Missed {
    /// `None` if nothing is known except that the site was connected.
    key: Option<LinkKeyId>,
    until: Instant,
}

/// The agents of one site that should be back soon.
#[derive(Debug, Default)]
pub(crate) struct Absence(Vec<Missed>);

impl Absence {
    /// Notes that an agent has gone that should be back by `until`. Without a key, it may be any agent.
    pub(crate) fn miss(&mut self, key: Option<LinkKeyId>, until: Instant, now: Instant) {
        self.0.retain(|missed| missed.until > now);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Missed { key, until });
    }

    /// Notes that an agent has come. If several with the same key were absent, it counts as one of them.
    pub(crate) fn came(&mut self, key: LinkKeyId) {
        let known = self.0.iter().position(|missed| missed.key == Some(key));
        if let Some(at) = known.or_else(|| self.0.iter().position(|missed| missed.key.is_none())) {
            self.0.remove(at);
        }
    }

    /// Until when requests may wait for an agent with this key, or for any agent if `key` is `None`.
    pub(crate) fn until(&self, key: Option<LinkKeyId>, now: Instant) -> Option<Instant> {
        let matches = |missed: &&Missed| key.is_none() || missed.key.is_none() || missed.key == key;
        self.0.iter().filter(matches).map(|missed| missed.until).filter(|until| *until > now).max()
    }
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::identity::signed_link::{LinkSecret, LinkSigner};

    use super::*;

    fn key(byte: u8) -> LinkKeyId {
        LinkSigner::new(&LinkSecret::from_bytes([byte; 32])).key_id()
    }

    #[test]
    fn an_agent_is_waited_for_until_it_comes_or_its_time_is_over() {
        let now = Instant::now();
        let soon = now + RETURN_TIME;
        let later = now + 2 * RETURN_TIME;
        let mut absence = Absence::default();
        assert_eq!(absence.until(None, now), None);
        absence.miss(Some(key(1)), soon, now);
        absence.miss(Some(key(2)), later, now);
        assert_eq!(absence.until(None, now), Some(later), "any will do");
        assert_eq!(absence.until(Some(key(1)), now), Some(soon));
        assert_eq!(absence.until(Some(key(3)), now), None, "no agent with this key was here");
        assert_eq!(absence.until(Some(key(1)), soon), None);
        absence.came(key(2));
        assert_eq!(absence.until(None, now), Some(soon));
    }

    #[test]
    fn after_a_start_any_agent_that_comes_is_one_of_those_that_were_here() {
        let now = Instant::now();
        let mut absence = Absence::default();
        absence.miss(None, now + RETURN_TIME, now);
        assert!(absence.until(Some(key(1)), now).is_some(), "it may be the one that holds this key");
        absence.came(key(2));
        assert_eq!(absence.until(Some(key(1)), now), None);
    }

    #[test]
    fn a_site_that_loses_agents_without_end_keeps_few_of_them() {
        let now = Instant::now();
        let mut absence = Absence::default();
        for _ in 0..10 * MOST {
            absence.miss(Some(key(1)), now + RETURN_TIME, now);
        }
        assert_eq!(absence.0.len(), MOST);
        absence.miss(None, now + 3 * RETURN_TIME, now + 2 * RETURN_TIME);
        assert_eq!(absence.0.len(), 1);
    }
}
