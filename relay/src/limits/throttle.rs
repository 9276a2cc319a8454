//! Slows down who presents wrong search tokens, site keys or enrolment codes.
//!
//! What counts is the pair of client and what it tried: a site and a tenant of it, or codes, which name no site. Never the client alone, since one
//! address of QueueMetrics speaks for hundreds of sites, and one wrong token among its settings must not shut out the
//! others. For the same reason a token that was right lately passes whatever else the pair tries.
//!
//! What is tried and not judged yet counts as if it were wrong, so that guesses that come all at once are no more than those
//! that come one after the other.
//!
//! Memory: a pair is remembered from its first wrong attempt until its bucket is full again, [`BURST`] times
//! [`REFILL`] after its last one; at most [`MAX_PAIRS`] are. Names of sites that do not exist and tenants that no agent
//! has announced are not told apart (see [`Subject`]), so made-up names are no way to fill the table.

mod buckets;
mod refusals;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::{buckets::Buckets, refusals::Refusals};
use super::{
    ClientKey,
    news::{News, Untold},
};

/// Wrong attempts that may come at once. A person who pastes the wrong token needs three or four to notice.
const BURST: u32 = 10;
/// After this time one more attempt is free: ten a minute, with which a token of 160 bits lasts for ever and a
/// tenant's secret of eight letters for forty thousand years. It is also the longest that a right token has to wait
/// when it comes for the first time behind wrong ones.
const REFILL: Duration = Duration::from_secs(6);
/// Pairs remembered at most: some 10 MB. Who has more addresses than this needs no second try from any of them.
const MAX_PAIRS: usize = 65_536;
/// Right tokens remembered for each site: one for each of many tenants. As numbers of 64 bits, 2 KiB.
const MAX_KNOWN: usize = 256;

/// Who tries what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    client: ClientKey,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Target {
    Search(SiteId, Option<String>),
    Key(SiteId),
    Code,
    Unknown,
}

impl Subject {
    /// A search. `site` must be one that exists, `tenant` one that an agent of the site has announced; all others
    /// are one and the same.
    pub fn search(client: ClientKey, site: &SiteId, tenant: Option<&str>) -> Self {
        Self { client, target: Target::Search(site.clone(), tenant.map(str::to_owned)) }
    }

    /// A tunnel for a site, which must be one that exists.
    pub fn key(client: ClientKey, site: &SiteId) -> Self {
        Self { client, target: Target::Key(site.clone()) }
    }

    /// An enrolment.
    pub fn code(client: ClientKey) -> Self {
        Self { client, target: Target::Code }
    }

    /// Anything for a site that does not exist.
    pub fn unknown(client: ClientKey) -> Self {
        Self { client, target: Target::Unknown }
    }

    fn site(&self) -> Option<&SiteId> {
        match &self.target {
            Target::Search(site, _) | Target::Key(site) => Some(site),
            Target::Code | Target::Unknown => None,
        }
    }
}

/// A pair has made too many wrong attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong attempts; correct the token, key or code, then try again")]
pub struct Throttled {
    /// After this the next attempt is looked at.
    pub retry_after: Duration,
}

/// What was refused of one site, from whichever address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SiteThrottle {
    /// Searches with a wrong token in the last hour.
    pub wrong_tokens: u32,
    /// Tunnels with a wrong key in the last hour.
    pub wrong_keys: u32,
    /// Attempts in the last hour that were not even looked at.
    pub throttled: u32,
    /// Since when somebody is throttled, if somebody is.
    pub since: Option<Timestamp>,
}

impl SiteThrottle {
    /// Everything that was refused in the last hour.
    pub fn sum(&self) -> u32 {
        self.wrong_tokens.saturating_add(self.wrong_keys).saturating_add(self.throttled)
    }

    /// Together with what another relay refused.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            wrong_tokens: self.wrong_tokens.saturating_add(other.wrong_tokens),
            wrong_keys: self.wrong_keys.saturating_add(other.wrong_keys),
            throttled: self.throttled.saturating_add(other.throttled),
            since: [self.since, other.since].into_iter().flatten().min(),
        }
    }
}

/// What was refused since the start, of all sites.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThrottleTotals {
    /// Searches with a wrong token.
    pub wrong_tokens: u64,
    /// Tunnels with a wrong key.
    pub wrong_keys: u64,
    /// Enrolments with a wrong code.
    pub wrong_codes: u64,
    /// Attempts at sites that do not exist.
    pub unknown_sites: u64,
    /// Attempts that were not even looked at.
    pub throttled: u64,
}

/// Remembers wrong attempts, and right tokens.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Arc<Mutex<State>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct State {
    buckets: Buckets,
    totals: ThrottleTotals,
    refusals: HashMap<SiteId, Refusals>,
    /// Wrong attempts that other relays are told of.
    untold: Untold<Subject>,
    /// Tokens that were right, as hashes with a key that was drawn for this run. A chance collision lets a wrong
    /// token reach the agent, which refuses it.
    known: HashMap<SiteId, HashSet<u64>>,
}

/// One attempt under way that will be found right or wrong.
#[derive(Debug)]
pub struct Trial {
    state: Arc<Mutex<State>>,
    subject: Subject,
    guess: u64,
    /// Whether the attempt took a place in the pair's bucket.
    reserved: bool,
}

impl Throttle {
    /// Lets a search try its token, or an enrolment its code. No more guesses of a pair are under way at a time than may
    /// be wrong.
    ///
    /// # Errors
    /// [`Throttled`].
    pub fn try_token(&self, subject: Subject, token: Option<&str>, now: Instant) -> Result<Trial, Throttled> {
        let guess = self.hasher.hash_one((&subject.target, token));
        let mut state = self.lock();
        let reserved = !state.knows(&subject, guess);
        if reserved {
            let place = state.buckets.reserve(&subject, guess, now);
            place.map_err(|wait| state.throttled(&subject, wait, now))?;
        }
        drop(state);
        Ok(Trial { state: Arc::clone(&self.state), subject, guess, reserved })
    }

    /// Whether another attempt would be looked at.
    ///
    /// # Errors
    /// [`Throttled`]; it is counted.
    pub fn check(&self, subject: &Subject, now: Instant) -> Result<(), Throttled> {
        let mut state = self.lock();
        let wait = state.buckets.wait(subject, now);
        if wait.is_zero() { Ok(()) } else { Err(state.throttled(subject, wait, now)) }
    }

    /// Counts a wrong attempt.
    pub fn wrong(&self, subject: Subject, now: Instant) {
        self.lock().wrong(subject, now);
    }

    /// Wrong attempts that other relays have not been told of.
    pub(super) fn tell(&self, since: Option<u64>) -> News<Subject> {
        self.lock().untold.since(since)
    }

    /// Counts a wrong attempt at another relay, which counts it among what was refused.
    pub(super) fn hear(&self, subject: Subject, now: Instant) {
        self.lock().buckets.wrong(subject, now);
    }

    /// What was refused of a site.
    pub fn snapshot(&self, site: &SiteId, now: Instant) -> SiteThrottle {
        self.lock().refusals.get(site).map(|refusals| refusals.snapshot(now)).unwrap_or_default()
    }

    /// What was refused since the start.
    pub fn totals(&self) -> ThrottleTotals {
        self.lock().totals
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn knows(&self, subject: &Subject, guess: u64) -> bool {
        let known = subject.site().and_then(|site| self.known.get(site));
        known.is_some_and(|known| known.contains(&guess))
    }

    /// Counts an attempt that is not looked at.
    fn throttled(&mut self, subject: &Subject, retry_after: Duration, now: Instant) -> Throttled {
        self.totals.throttled += 1;
        if let Some(site) = subject.site() {
            self.refusals.entry(site.clone()).or_default().count(refusals::Kind::Throttled, now);
        }
        Throttled { retry_after }
    }

    fn wrong(&mut self, subject: Subject, now: Instant) {
        let (kind, total) = match subject.target {
            Target::Search(..) => (Some(refusals::Kind::Token), &mut self.totals.wrong_tokens),
            Target::Key(_) => (Some(refusals::Kind::Key), &mut self.totals.wrong_keys),
            Target::Code => (None, &mut self.totals.wrong_codes),
            Target::Unknown => (None, &mut self.totals.unknown_sites),
        };
        *total += 1;
        if let Some((site, kind)) = subject.site().zip(kind) {
            self.refusals.entry(site.clone()).or_default().count(kind, now);
        }
        self.untold.push(subject.clone());
        self.buckets.wrong(subject, now);
    }
}

impl Trial {
    /// The token was right: it passes from now on.
    pub fn right(self) {
        let Some(site) = self.subject.site() else { return };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.known.entry(site.clone()).or_default();
        if known.len() >= MAX_KNOWN {
            // Which ones are forgotten does not matter: those in use come back with their next search.
            known.clear();
        }
        known.insert(self.guess);
    }

    /// The token was wrong, perhaps for the first time.
    pub fn wrong(self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.subject.site().and_then(|site| state.known.get_mut(site)) {
            known.remove(&self.guess);
        }
        state.wrong(self.subject.clone(), now);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if self.reserved {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.buckets.release(&self.subject, self.guess);
        }
    }
}

#[cfg(test)]
mod tests;
