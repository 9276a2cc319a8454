//! Limits for one client, for one site, and for all clients together.
//!
//! The overload or the mistake of one must not affect the others. A request over a limit gets its response at once:
//! 429 if the client can do something about it, 503 if not.
//!
//! Events at one relay that count at its peers too go through a `ChangeLog`: once a second, each peer asks for those
//! that it does not know yet.

mod admission;
mod logins;
mod requests;
mod throttle;

use std::{collections::VecDeque, time::Instant};

pub use audiovault_protocol::admission::{
    semaphore::{KeyedSemaphore, Permit},
    throttle::ClientKey,
};
use audiovault_protocol::{admission::connection::HeldBody, limits::PROCESS_WINDOW_BUDGET};
use axum::{body::Body, response::Response};
use serde::{Deserialize, Serialize};

pub use self::{
    admission::Admissions,
    logins::{LoginAttempt, LoginThrottle},
    requests::{Busy, RequestLimits, SitePermit, UnderWay},
    throttle::{Guess, SiteThrottle, Subject, Throttle, ThrottleTotals, Throttled, Trial},
};

/// The question to a peer relay: what has happened there that counts here too?
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsQuestion {
    /// The number of the last wrong attempt that this relay knows of, if it knows one.
    attempts: Option<u64>,
    /// The number of the last attempt to log in that this relay knows of, if it knows one.
    logins: Option<u64>,
}

/// What counts at all relays, regardless of the relay at which it happens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsReport {
    attempts: Changes<Subject>,
    logins: Changes<LoginAttempt>,
    under_way: UnderWay,
}

/// The limits of one relay.
#[derive(Debug)]
pub struct Limits {
    /// Requests under way.
    pub requests: RequestLimits,
    /// Wrong search tokens, site keys and enrolment codes.
    pub throttle: Throttle,
    /// Attempts to log in.
    pub logins: LoginThrottle,
    /// New tunnels.
    pub admissions: Admissions,
}

impl Limits {
    /// Limits with nothing under way yet.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            requests: RequestLimits::new(config.max_client_requests, config.max_site_requests),
            throttle: Throttle::default(),
            logins: LoginThrottle::default(),
            admissions: Admissions::new(config.accept_rate),
        }
    }

    /// The answer to a peer relay's question.
    pub fn report(&self, question: &LimitsQuestion) -> LimitsReport {
        LimitsReport {
            attempts: self.throttle.report(question.attempts),
            logins: self.logins.report(question.logins),
            under_way: self.requests.report(),
        }
    }

    /// Counts attempts at a peer relay. Returns the next question to it, and the requests that are under way
    /// there. The answer arrives up to a second late; until then each relay admits what it would admit alone.
    pub fn apply(&self, report: LimitsReport) -> (LimitsQuestion, UnderWay) {
        let LimitsReport { attempts, logins, under_way } = report;
        let question = LimitsQuestion { attempts: Some(attempts.number), logins: Some(logins.number) };
        let now = Instant::now();
        attempts.items.into_iter().for_each(|subject| self.throttle.apply(&subject, now));
        logins.items.iter().for_each(|attempt| self.logins.apply(attempt));
        (question, under_way)
    }

    /// Counts the requests that are under way at all peer relays.
    pub fn apply_under_way<'a>(&self, all: impl Iterator<Item = &'a UnderWay>) {
        self.requests.apply(all);
    }
}

/// Connections of all clients together by default: hundreds of sites with a tunnel or two, and ten times as many
/// listeners.
const DEFAULT_MAX_CONNECTIONS: u32 = 10_000;
/// Connections of one client by default. An office of two hundred behind one address opens six for each browser
/// with HTTP/1.1 at worst, and not all at once; a carrier's NAT has thousands of customers, few of whom listen to
/// recordings.
const DEFAULT_MAX_CLIENT_CONNECTIONS: u32 = 1_000;
/// Requests of one client under way by default: QueueMetrics searches hundreds of sites from one address, each in
/// a fraction of a second.
const DEFAULT_MAX_CLIENT_REQUESTS: u32 = 512;
/// Requests to one site under way by default: what one tunnel carries.
const DEFAULT_MAX_SITE_REQUESTS: u32 = 256;
/// New tunnels per second by default: five hundred sites are back five seconds after a restart, and the
/// handshakes of a hundred take a fraction of one core.
const DEFAULT_ACCEPT_RATE: u32 = 100;
/// Tunnels of one site by default: eight agents with four tunnels each. An idle tunnel costs 16 kB.
const DEFAULT_MAX_SITE_TUNNELS: u32 = 32;
/// Agents of one site by default. A site has one agent, or two that replace each other. A site with several
/// machines, each with recordings of its own, has a few.
const DEFAULT_MAX_SITE_AGENTS: u32 = 8;
/// The limits of one relay, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections to the public listeners, of all clients together.
    pub max_connections: u32,
    /// Connections of one client.
    pub max_client_connections: u32,
    /// Requests under way of one client.
    pub max_client_requests: u32,
    /// Requests under way to one site.
    pub max_site_requests: u32,
    /// Tunnels and agents of one site.
    pub site_maximum: SiteMaximum,
    /// Bytes of recordings that all tunnels together may have on their way through the relay.
    pub memory_budget: u64,
    /// New tunnels per second.
    pub accept_rate: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_client_connections: DEFAULT_MAX_CLIENT_CONNECTIONS,
            max_client_requests: DEFAULT_MAX_CLIENT_REQUESTS,
            max_site_requests: DEFAULT_MAX_SITE_REQUESTS,
            site_maximum: SiteMaximum { tunnels: DEFAULT_MAX_SITE_TUNNELS, agents: DEFAULT_MAX_SITE_AGENTS },
            memory_budget: PROCESS_WINDOW_BUDGET,
            accept_rate: DEFAULT_ACCEPT_RATE,
        }
    }
}

/// The most that one site may have at this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteMaximum {
    /// Tunnels, those of all its agents together.
    pub tunnels: u32,
    /// Agents, each with all its tunnels.
    pub agents: u32,
}

impl SiteMaximum {
    /// No limit.
    pub const UNLIMITED: Self = Self { tunnels: u32::MAX, agents: u32::MAX };
}

/// The maximum number of events that are kept for the peers. If there are more within a second, the oldest
/// count at this relay alone.
const MAX_REMEMBERED: usize = 10_000;

/// Events that some peers may not know yet.
#[derive(Debug)]
struct ChangeLog<T> {
    /// The number of events since the start.
    number: u64,
    recent: VecDeque<T>,
}

/// Events for a peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changes<T> {
    /// The number with which the peer asks next time.
    pub number: u64,
    /// The events after the number with which the peer asked.
    pub items: Vec<T>,
}

impl<T> Default for ChangeLog<T> {
    fn default() -> Self {
        Self { number: 0, recent: VecDeque::new() }
    }
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { number: 0, items: Vec::new() }
    }
}

impl<T: Clone> ChangeLog<T> {
    fn push(&mut self, item: T) {
        if self.recent.len() >= MAX_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(item);
        self.number += 1;
    }

    /// The events after `number`. A peer that asks for the first time (`None`) gets none of the earlier ones.
    fn since(&self, number: Option<u64>) -> Changes<T> {
        let new = number.map_or(0, |number| self.number.saturating_sub(number));
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(self.recent.len());
        let items = self.recent.iter().skip(self.recent.len() - new).cloned().collect();
        Changes { number: self.number, items }
    }
}

/// Keeps `guard` until the body of the response is dropped.
pub(crate) fn hold<G: Send + Unpin + 'static>(response: Response, guard: G) -> Response {
    response.map(|body| Body::new(HeldBody::new(body, guard)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_gets_every_change_once() {
        let mut log = ChangeLog::default();
        log.push('a');
        let first = log.since(None);
        assert!(first.items.is_empty(), "that was before");
        log.push('b');
        log.push('c');
        let second = log.since(Some(first.number));
        assert_eq!(second.items, ['b', 'c']);
        assert!(log.since(Some(second.number)).items.is_empty());
        assert!(log.since(Some(99)).items.is_empty(), "a number of another run");
    }

    #[test]
    fn changes_that_no_peer_asks_for_are_not_remembered_for_ever() {
        let mut log = ChangeLog::default();
        (0..=MAX_REMEMBERED).for_each(|number| log.push(number));
        let report = log.since(Some(0));
        assert_eq!((report.items.len(), report.items[0]), (MAX_REMEMBERED, 1));
    }
}
