//! Throttles clients that present wrong search tokens, site keys, enrolment codes or links.
//!
//! Attempts are counted for the pair of a client and what it tries: a site and one of its tenants, or enrolment
//! codes, which name no site. They are never counted for the client alone. One address of QueueMetrics sends
//! the requests for hundreds of sites, and one wrong token among its settings must not shut out the others. For
//! the same reason a token that was right recently passes, regardless of what else the pair tries.
//!
//! An attempt without a result yet counts as if it were wrong. Guesses that come all at once are therefore no
//! more than guesses that come one after the other. An attempt that finds all permits taken waits until another
//! one has its result: of a hundred searches with a new token ten take permits, and all pass together when the
//! first was right.
//!
//! Only the agent knows which token is right, and only its answer counts. The relay finds the token in a
//! request by the field names that the agent announces in HELLO. A search in which the relay does not find a
//! token counts as a guess of its own: it takes a permit, and is never remembered as right.
//!
//! Memory: a pair is remembered from its first wrong attempt until its bucket is full again, and at most
//! [`MAX_PAIRS`] are. Tenants that no agent has announced are not distinguished (see [`Subject`]). Names of
//! sites that do not exist are distinguished, by a number of 64 bits. They are throttled exactly as existing
//! sites are; otherwise the throttle would reveal which sites exist. A client that makes up names has one wrong
//! attempt at each, and the pairs with the fewest wrong attempts are forgotten first.

mod refusals;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_protocol::{
    admission::throttle::{Allowance, Buckets, Counted, Full, Network, RightLately},
    identity::site::SiteId,
};
use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use self::refusals::Refusals;
use super::{ChangeLog, Changes, ClientKey};

/// The maximum number of pairs that are remembered: about 10 MB. A client with more addresses than this does not
/// need a second attempt from any of them.
const MAX_PAIRS: usize = 65_536;
/// The maximum number of right tokens, each with its client, and of clients that are remembered for each site:
/// enough for many tenants, and for hundreds of users whose browsers search. As numbers of 64 bits they take
/// 16 KiB.
const MAX_RIGHT: usize = 1024;
/// The maximum number of opened links that are remembered for each site: more than are listened to at a time.
/// As numbers of 64 bits they take 8 KiB.
const MAX_OPENED: usize = 512;
/// When to retry after attempts under way held all permits for as long as a request can wait.
const UNDER_WAY_RETRY: Duration = Duration::from_secs(2);

/// A client and what it tries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject {
    client: ClientKey,
    target: Target,
}

/// The key of a bucket: whose attempts it counts, and at what.
type BucketKey = (Network, Target);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Target {
    Search(SiteId, Option<String>),
    Key(SiteId),
    Link(SiteId),
    Code,
    Unknown,
    Name(u64),
}

impl Subject {
    /// A search. `site` must exist, and `tenant` must have been announced by an agent of the site. All other
    /// tenants count together, as `None`.
    pub fn search(client: ClientKey, site: &SiteId, tenant: Option<&str>) -> Self {
        Self { client, target: Target::Search(site.clone(), tenant.map(str::to_owned)) }
    }

    /// A tunnel for a site, which must exist.
    pub fn key(client: ClientKey, site: &SiteId) -> Self {
        Self { client, target: Target::Key(site.clone()) }
    }

    /// A download by a signed link of a site, which must exist.
    pub fn link(client: ClientKey, site: &SiteId) -> Self {
        Self { client, target: Target::Link(site.clone()) }
    }

    /// An enrolment.
    pub fn code(client: ClientKey) -> Self {
        Self { client, target: Target::Code }
    }

    /// A tunnel whose key names no site.
    pub fn unknown(client: ClientKey) -> Self {
        Self { client, target: Target::Unknown }
    }

    /// A tunnel for a site that does not exist.
    pub fn key_by_name(client: ClientKey, site: &SiteId) -> Self {
        Self::by_name(client, "key", site.as_str())
    }

    /// A search for a name that no connected site has.
    pub fn search_by_name(client: ClientKey, name: &str) -> Self {
        Self::by_name(client, "search", name)
    }

    /// A download by a link that names a site that does not exist.
    pub fn link_by_name(client: ClientKey, name: &str) -> Self {
        Self::by_name(client, "link", name)
    }

    fn by_name(client: ClientKey, what: &str, name: &str) -> Self {
        let digest =
            Sha256::new().chain_update(what).chain_update([0]).chain_update(name.to_ascii_lowercase());
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(digest.finalize());
        Self { client, target: Target::Name(u64::from_be_bytes([a, b, c, d, e, f, g, h])) }
    }

    /// The buckets in which a wrong attempt counts. Searches also have one for all clients of a site together.
    /// Keys and codes have too many random bits to need that, and with it unauthenticated clients could keep
    /// agents out.
    fn keys(&self) -> Vec<(BucketKey, Allowance)> {
        match &self.target {
            Target::Search(..) => self.keys_counted(Counted::WithAllClients),
            Target::Key(_) | Target::Link(_) | Target::Code | Target::Unknown | Target::Name(_) => {
                self.keys_counted(Counted::WithNeighbours)
            }
        }
    }

    fn keys_counted(&self, counted: Counted) -> Vec<(BucketKey, Allowance)> {
        counted.keys(self.client, &self.target, &self.of_all_clients())
    }

    /// What all clients together try.
    fn of_all_clients(&self) -> Target {
        match &self.target {
            Target::Search(site, _) => Target::Search(site.clone(), None),
            other @ (Target::Key(_) | Target::Link(_) | Target::Code | Target::Unknown | Target::Name(_)) => {
                other.clone()
            }
        }
    }

    /// The bucket of all clients of the site together.
    fn ceiling(site: &SiteId) -> [(BucketKey, Allowance); 1] {
        [((Network::ALL_CLIENTS, Target::Search(site.clone(), None)), Allowance::SITE)]
    }

    fn site(&self) -> Option<&SiteId> {
        match &self.target {
            Target::Search(site, _) | Target::Key(site) | Target::Link(site) => Some(site),
            Target::Code | Target::Unknown | Target::Name(_) => None,
        }
    }
}

/// What an attempt presents.
#[derive(Debug, Clone, Copy)]
pub enum Guess<'a> {
    /// The values that may be the secret. If `certain`, they are the secret: every agent that may be asked has
    /// said so.
    Secret {
        /// The values of all fields that are named as the token is.
        values: &'a [String],
        /// True if the agents have announced the names of these fields.
        certain: bool,
    },
    /// The relay does not know what in the request is the secret, or there is no secret.
    Unknown,
}

/// Why an attempt is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// The pair has made too many wrong attempts.
    #[error("too many wrong attempts; correct the token, key, code or link, then try again")]
    Wrong {
        /// The time after which the next attempt is checked.
        retry_after: Duration,
    },
    /// Other attempts of the pair are under way, and their results have not come in time.
    #[error("too many concurrent requests from your address whose token is not checked yet; try again")]
    UnderWay,
}

impl Throttled {
    /// The time after which a retry is useful.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Wrong { retry_after } => *retry_after,
            Self::UnderWay => UNDER_WAY_RETRY,
        }
    }
}

/// Refused attempts at one site, from all addresses together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SiteThrottle {
    /// Searches with a wrong token in the last hour.
    pub wrong_tokens: u32,
    /// Tunnels with a wrong key in the last hour.
    pub wrong_keys: u32,
    /// Downloads by a forged link in the last hour.
    #[serde(default)]
    pub wrong_links: u32,
    /// Attempts in the last hour that were refused without a check, because there were too many wrong ones
    /// before.
    pub throttled: u32,
    /// Since when clients are throttled, if any client is throttled now.
    pub since: Option<Timestamp>,
    /// Since when new clients are throttled too, because all clients together have sent too many wrong tokens.
    /// Empty if they are not.
    #[serde(default)]
    pub ceiling_since: Option<Timestamp>,
}

impl SiteThrottle {
    /// The number of attempts that were refused in the last hour.
    pub fn sum(&self) -> u32 {
        let wrong = self.wrong_tokens.saturating_add(self.wrong_keys).saturating_add(self.wrong_links);
        wrong.saturating_add(self.throttled)
    }

    /// The sum with the attempts that another relay refused.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            wrong_tokens: self.wrong_tokens.saturating_add(other.wrong_tokens),
            wrong_keys: self.wrong_keys.saturating_add(other.wrong_keys),
            wrong_links: self.wrong_links.saturating_add(other.wrong_links),
            throttled: self.throttled.saturating_add(other.throttled),
            since: [self.since, other.since].into_iter().flatten().min(),
            ceiling_since: [self.ceiling_since, other.ceiling_since].into_iter().flatten().min(),
        }
    }
}

/// Refused attempts since the start, at all sites together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThrottleTotals {
    /// Searches with a wrong token.
    pub wrong_tokens: u64,
    /// Tunnels with a wrong key.
    pub wrong_keys: u64,
    /// Enrolments with a wrong code.
    pub wrong_codes: u64,
    /// Downloads by a forged link.
    pub wrong_links: u64,
    /// Attempts at sites that do not exist, or that an unauthenticated client cannot distinguish from such
    /// sites.
    pub unknown_sites: u64,
    /// Attempts that were refused without a check.
    pub throttled: u64,
}

/// Remembers wrong attempts, and right tokens.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Arc<Mutex<State>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct State {
    buckets: Buckets<BucketKey, RandomState>,
    totals: ThrottleTotals,
    refusals: HashMap<SiteId, Refusals>,
    /// Wrong attempts that peer relays ask for.
    log: ChangeLog<Subject>,
    /// Clients and tokens that were right, as hashes with a key that is random for each run. If two hashes
    /// collide, a wrong token reaches the agent, which refuses it.
    right: HashMap<SiteId, RightLately<RandomState>>,
    /// Links that opened, as hashes of the same kind.
    opened: HashMap<SiteId, RightLately<RandomState>>,
    /// Sites whose agents do not announce the names of the token's fields, and at which a value was right once
    /// and wrong later. It need not have been the token, so the relay takes nothing that it reads there for the
    /// token any more.
    uncertain: HashSet<SiteId>,
    /// Attempts that wait for a permit, by the target that all clients together try: they share the bucket of
    /// that target.
    waiting: HashMap<Target, Arc<Notify>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            buckets: Buckets::new(MAX_PAIRS, RandomState::new()),
            totals: ThrottleTotals::default(),
            refusals: HashMap::new(),
            log: ChangeLog::default(),
            right: HashMap::new(),
            opened: HashMap::new(),
            uncertain: HashSet::new(),
            waiting: HashMap::new(),
        }
    }
}

/// One attempt under way, whose result is not known yet.
#[derive(Debug)]
pub struct Trial {
    state: Arc<Mutex<State>>,
    subject: Subject,
    presented: Presented,
    /// The buckets in which the attempt holds a permit. Empty if what it presents was right recently.
    places: Vec<(BucketKey, Allowance)>,
}

/// What an attempt presents, as keyed hashes.
#[derive(Debug, Clone, Copy)]
struct Presented {
    /// The secret, with the client and what it tries. `None` if the secret is not known.
    digest: Option<u64>,
    /// True if this is certainly the secret.
    certain: bool,
    /// The client alone.
    client: u64,
}

/// What happens to an attempt at once.
enum Entry {
    Admitted(Vec<(BucketKey, Allowance)>),
    Waits(Arc<Notify>),
}

impl Throttle {
    /// Admits a search to try its token, or an enrolment to try its code. No pair has more guesses under way at
    /// a time than it may get wrong. Further ones wait, at most until `until`.
    ///
    /// # Errors
    /// [`Throttled`].
    pub async fn try_token(
        &self,
        subject: Subject,
        guess: Guess<'_>,
        until: tokio::time::Instant,
    ) -> Result<Trial, Throttled> {
        let presented = self.presented(&subject, guess);
        loop {
            let entry = self.lock().enter(&subject, &presented, Instant::now())?;
            let notify = match entry {
                Entry::Admitted(places) => return Ok(self.trial(subject, presented, places)),
                Entry::Waits(notify) => notify,
            };
            if !self.wait_for_place(&subject, &notify, until).await {
                return Err(Throttled::UnderWay);
            }
        }
    }

    fn presented(&self, subject: &Subject, guess: Guess<'_>) -> Presented {
        let (digest, certain) = match guess {
            Guess::Secret { values: [], .. } | Guess::Unknown => (None, true),
            Guess::Secret { values, certain } => (Some(self.hasher.hash_one((subject, values))), certain),
        };
        Presented { digest, certain, client: self.hasher.hash_one(subject.client) }
    }

    fn trial(&self, subject: Subject, presented: Presented, places: Vec<(BucketKey, Allowance)>) -> Trial {
        Trial { state: Arc::clone(&self.state), subject, presented, places }
    }

    /// Waits until another attempt at the same target has its result. Returns false if that takes longer than
    /// `until`.
    async fn wait_for_place(
        &self,
        subject: &Subject,
        notify: &Arc<Notify>,
        until: tokio::time::Instant,
    ) -> bool {
        let mut judged = std::pin::pin!(notify.notified());
        judged.as_mut().enable();
        // The attempt that gets a result removes the entry from the map. If that has happened already, there
        // may be a permit now.
        let waits = self
            .lock()
            .waiting
            .get(&subject.of_all_clients())
            .is_some_and(|other| Arc::ptr_eq(other, notify));
        !waits || tokio::time::timeout_at(until, judged).await.is_ok()
    }

    /// Checks whether another attempt would be admitted.
    ///
    /// # Errors
    /// [`Throttled`] if not; this is counted.
    pub fn check(&self, subject: &Subject, now: Instant) -> Result<(), Throttled> {
        let mut state = self.lock();
        match state.buckets.check(&subject.keys(), now) {
            Ok(()) | Err(Full::UnderWay) => Ok(()),
            Err(Full::Wrong(wait)) => Err(state.throttled(subject, wait, now)),
        }
    }

    /// Checks whether a link, given by its token and its file name, would be admitted. A link that opened
    /// recently for this client always is, regardless of what else the client tries. Links under way take no
    /// permits: a link cannot be guessed, and an office may open a hundred at once.
    ///
    /// # Errors
    /// [`Throttled`] if not; this is counted.
    pub fn check_link(&self, subject: &Subject, link: [&str; 2], now: Instant) -> Result<(), Throttled> {
        if self.opened_lately(subject, link) {
            return Ok(());
        }
        self.check(subject, now)
    }

    /// True if a token of this client was right at the site recently.
    pub fn was_right_for(&self, client: ClientKey, site: &SiteId) -> bool {
        let digest = self.hasher.hash_one(client);
        self.lock().right.get(site).is_some_and(|right| right.contains(digest))
    }

    /// Remembers that a token of this client was right at the site, as a peer relay has found.
    pub fn right_for(&self, client: ClientKey, site: &SiteId) {
        let digest = self.hasher.hash_one(client);
        self.lock().right_at(site).insert(digest);
    }

    /// True if the link opened for this client recently.
    pub fn opened_lately(&self, subject: &Subject, link: [&str; 2]) -> bool {
        let digest = self.hasher.hash_one((subject, link));
        let state = self.lock();
        subject.site().and_then(|site| state.opened.get(site)).is_some_and(|opened| opened.contains(digest))
    }

    /// Remembers that the link opens for this client.
    pub fn link_opened(&self, subject: &Subject, link: [&str; 2]) {
        let Some(site) = subject.site() else { return };
        let digest = self.hasher.hash_one((subject, link));
        let mut state = self.lock();
        let opened = state.opened.entry(site.clone());
        opened.or_insert_with(|| RightLately::new(MAX_OPENED, RandomState::new())).insert(digest);
    }

    /// Counts a wrong attempt.
    pub fn wrong(&self, subject: Subject, now: Instant) {
        self.lock().wrong(subject, now);
    }

    /// The wrong attempts that a peer relay does not know of yet.
    pub(super) fn report(&self, since: Option<u64>) -> Changes<Subject> {
        self.lock().log.since(since)
    }

    /// Counts a wrong attempt at a peer relay. Only the peer counts it among its refused attempts.
    pub(super) fn apply(&self, subject: &Subject, now: Instant) {
        self.lock().buckets.wrong(&subject.keys(), now);
    }

    /// The attempts that were refused at a site.
    pub fn snapshot(&self, site: &SiteId, now: Instant) -> SiteThrottle {
        self.lock().refusals.get(site).map(|refusals| refusals.snapshot(now)).unwrap_or_default()
    }

    /// The attempts that were refused since the start.
    pub fn totals(&self) -> ThrottleTotals {
        self.lock().totals
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn enter(&mut self, subject: &Subject, presented: &Presented, now: Instant) -> Result<Entry, Throttled> {
        if self.readable(subject, presented).is_some_and(|digest| self.was_right(subject, digest)) {
            return Ok(Entry::Admitted(Vec::new()));
        }
        // A client that was right recently is not shut out by the attempts of others.
        let places = match self.was_right(subject, presented.client) {
            true => subject.keys_counted(Counted::ForItself),
            false => subject.keys(),
        };
        match self.buckets.reserve(&places, now) {
            Ok(()) => Ok(Entry::Admitted(places)),
            Err(Full::UnderWay) => {
                Ok(Entry::Waits(Arc::clone(self.waiting.entry(subject.of_all_clients()).or_default())))
            }
            Err(Full::Wrong(wait)) => Err(self.throttled(subject, wait, now)),
        }
    }

    /// The hashes of what was right at a site.
    fn right_at(&mut self, site: &SiteId) -> &mut RightLately<RandomState> {
        let right = self.right.entry(site.clone());
        right.or_insert_with(|| RightLately::new(MAX_RIGHT, RandomState::new()))
    }

    /// The hash of the secret, unless the relay cannot be sure that it is the secret.
    fn readable(&self, subject: &Subject, presented: &Presented) -> Option<u64> {
        let trusted = presented.certain || subject.site().is_none_or(|site| !self.uncertain.contains(site));
        presented.digest.filter(|_| trusted)
    }

    fn was_right(&self, subject: &Subject, digest: u64) -> bool {
        subject.site().and_then(|site| self.right.get(site)).is_some_and(|right| right.contains(digest))
    }

    /// Counts an attempt that is not checked.
    fn throttled(&mut self, subject: &Subject, retry_after: Duration, now: Instant) -> Throttled {
        self.totals.throttled += 1;
        if let Some(site) = subject.site() {
            let refusals = self.refusals.entry(site.clone()).or_default();
            refusals.count(refusals::Kind::Throttled, now);
            if matches!(self.buckets.check(&Subject::ceiling(site), now), Err(Full::Wrong(_))) {
                refusals.reached_ceiling(now);
            }
        }
        Throttled::Wrong { retry_after }
    }

    fn wrong(&mut self, subject: Subject, now: Instant) {
        let (kind, total) = match subject.target {
            Target::Search(..) => (Some(refusals::Kind::Token), &mut self.totals.wrong_tokens),
            Target::Key(_) => (Some(refusals::Kind::Key), &mut self.totals.wrong_keys),
            Target::Link(_) => (Some(refusals::Kind::Link), &mut self.totals.wrong_links),
            Target::Code => (None, &mut self.totals.wrong_codes),
            Target::Unknown | Target::Name(_) => (None, &mut self.totals.unknown_sites),
        };
        *total += 1;
        if let Some((site, kind)) = subject.site().zip(kind) {
            self.refusals.entry(site.clone()).or_default().count(kind, now);
        }
        self.buckets.wrong(&subject.keys(), now);
        // Each relay throttles forged links and unknown names by itself: no secret can be guessed there, and relays
        // of an earlier version do not know of them.
        if !matches!(subject.target, Target::Link(_) | Target::Name(_)) {
            self.log.push(subject);
        }
    }
}

impl Trial {
    /// The token was right: it passes from now on.
    pub fn right(self) {
        let Some(site) = self.subject.site() else { return };
        let mut state = self.lock();
        let digest = state.readable(&self.subject, &self.presented);
        let right = state.right_at(site);
        right.insert(self.presented.client);
        digest.into_iter().for_each(|digest| right.insert(digest));
    }

    /// The token was wrong. It may have been right before.
    pub fn wrong(self, now: Instant) {
        let mut state = self.lock();
        if let (Some(site), Some(digest)) = (self.subject.site(), self.presented.digest)
            && state.right.get_mut(site).is_some_and(|right| right.remove(digest))
            && !self.presented.certain
        {
            state.uncertain.insert(site.clone());
        }
        state.wrong(self.subject.clone(), now);
    }

    /// The agent did not check the attempt either, because of earlier wrong ones. This costs as much as a wrong
    /// attempt; otherwise the relay would send the agent everything that the agent throttles.
    pub fn throttled(self, now: Instant) {
        self.lock().buckets.wrong(&self.subject.keys(), now);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            let mut state = self.lock();
            state.buckets.release(&self.places);
            if let Some(waiting) = state.waiting.remove(&self.subject.of_all_clients()) {
                waiting.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests;
