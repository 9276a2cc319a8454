//! Which agents are connected for which site, and what passed through them.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use audiovault_protocol::{
    credit::WindowBudget, limits::PROCESS_WINDOW_BUDGET, signed_link::LinkKeyId, site::SiteId,
};
use jiff::Timestamp;

use crate::{
    session::{RECONNECT_AFTER_MS, Session, reconnect_window},
    store::Traffic,
};

/// Counters of one site since this process started.
#[derive(Debug, Default)]
pub struct SiteCounters {
    /// Searches asked.
    pub searches: AtomicU64,
    /// Requests that ended in a server error (status 500 and above).
    pub errors: AtomicU64,
    /// Octets of recordings handed to clients' connections.
    pub bytes_delivered: AtomicU64,
    /// When the last agent was seen, in milliseconds since the Unix epoch; 0 for never.
    last_seen_ms: AtomicU64,
}

impl SiteCounters {
    /// Everything that was counted so far.
    pub fn totals(&self) -> Traffic {
        Traffic {
            searches: self.searches.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes: self.bytes_delivered.load(Ordering::Relaxed),
        }
    }

    /// When an agent of the site was last connected, unless never.
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
    counters: Arc<SiteCounters>,
}

/// Why no agent can take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSession {
    /// No agent of the site is connected.
    Offline,
    /// Agents are connected, but none of them made the link.
    OtherKey,
}

/// All sessions of this relay process.
#[derive(Debug)]
pub struct Registry {
    sites: RwLock<HashMap<SiteId, Entry>>,
    window_budget: Arc<WindowBudget>,
    /// How often a session was chosen, for all sites.
    choices: AtomicU64,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(PROCESS_WINDOW_BUDGET)
    }
}

impl Registry {
    /// No sessions yet; the windows of all tunnels share a budget of so many octets.
    pub fn new(window_budget: u64) -> Self {
        Self {
            sites: RwLock::default(),
            window_budget: WindowBudget::new(window_budget),
            choices: AtomicU64::new(0),
        }
    }

    /// The budget that the windows of all tunnels share.
    pub fn window_budget(&self) -> Arc<WindowBudget> {
        Arc::clone(&self.window_budget)
    }

    /// Adds a session. One that is the same connection of the same agent, come anew, replaces the old, which
    /// finishes what is open.
    pub fn add(&self, session: Arc<Session>) {
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        let entry = sites.entry(session.site.clone()).or_default();
        entry.counters.saw_agent();
        for old in entry.sessions.iter().filter(|old| old.is_same_agent(&session)) {
            old.leave("another tunnel of the same agent has taken over", RECONNECT_AFTER_MS);
        }
        entry.sessions.push(session);
    }

    /// Takes a session out that has ended.
    pub fn remove(&self, session: &Arc<Session>) {
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = sites.get_mut(&session.site) {
            entry.sessions.retain(|other| !Arc::ptr_eq(other, session));
            entry.counters.saw_agent();
        }
    }

    /// The agent of a site that should search.
    ///
    /// # Errors
    /// [`NoSession::Offline`].
    pub fn any(&self, site: &SiteId) -> Result<Arc<Session>, NoSession> {
        self.idlest(self.sessions(site).into_iter()).ok_or(NoSession::Offline)
    }

    /// The agent of a site that can open a link made with this key.
    ///
    /// # Errors
    /// [`NoSession`].
    pub fn holder(&self, site: &SiteId, key: LinkKeyId) -> Result<Arc<Session>, NoSession> {
        let sessions: Vec<_> =
            self.sessions(site).into_iter().filter(|session| session.takes_requests()).collect();
        if sessions.is_empty() {
            return Err(NoSession::Offline);
        }
        let holders = sessions.into_iter().filter(|session| session.hello.link_key_id == key);
        self.idlest(holders).ok_or(NoSession::OtherKey)
    }

    /// Of the sessions that take requests, the one with the fewest streams open; of equals, the one that has waited
    /// longest, so that also requests that come one by one are spread.
    fn idlest(&self, sessions: impl Iterator<Item = Arc<Session>>) -> Option<Arc<Session>> {
        let open = sessions.filter(|session| session.takes_requests());
        let chosen = open.min_by_key(|session| (session.caller.open_streams(), session.last_chosen()))?;
        chosen.choose(self.choices.fetch_add(1, Ordering::Relaxed) + 1);
        Some(chosen)
    }

    /// The sessions of a site, in the order in which they came.
    pub fn sessions(&self, site: &SiteId) -> Vec<Arc<Session>> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        sites.get(site).map(|entry| entry.sessions.clone()).unwrap_or_default()
    }

    /// The counters of a site.
    pub fn counters(&self, site: &SiteId) -> Arc<SiteCounters> {
        if let Some(entry) = self.sites.read().unwrap_or_else(PoisonError::into_inner).get(site) {
            return Arc::clone(&entry.counters);
        }
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&sites.entry(site.clone()).or_default().counters)
    }

    /// The counters of every site that was asked for so far.
    pub fn all_counters(&self) -> Vec<(SiteId, Arc<SiteCounters>)> {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        sites.iter().map(|(site, entry)| (site.clone(), Arc::clone(&entry.counters))).collect()
    }

    /// Asks every agent to dial again, no more in a second than a successor admits; what is open finishes.
    pub fn leave_all(&self, reason: &str, accept_rate: u32) {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let sessions = || sites.values().flat_map(|entry| &entry.sessions);
        let window = reconnect_window(sessions().count(), accept_rate);
        sessions().for_each(|session| session.leave(reason, window));
    }
}
