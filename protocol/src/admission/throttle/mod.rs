//! Limits wrong attempts at search tokens, site keys, enrolment codes and links, for relay and agent alike.
//!
//! Every attempt belongs to one or several keys, such as a client and what it tries. Each key has an [`Allowance`]: a
//! bucket of wrong attempts that refills over time. An attempt reserves a place in the bucket before its outcome is
//! known, as if it were wrong. Otherwise two hundred concurrent attempts would all be checked.
//!
//! Pure: the caller brings the time and the keys of the hash tables.

mod client_key;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash},
    time::{Duration, Instant},
};

pub use self::client_key::{ClientKey, Network};

/// With fewer buckets than this, no time is spent on searching for full ones: they take less than 200 kB.
const SWEEP_FROM: usize = 1024;

/// How many wrong attempts a key may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Wrong attempts that are allowed at once.
    pub burst: u32,
    /// Time after which one more is allowed. An empty bucket is full again after `burst` times this.
    pub refill: Duration,
}

impl Allowance {
    /// The allowance of one client for one thing that it tries. Ten at once: a person who pastes the wrong token needs
    /// three or four attempts to notice. Then one every six seconds: at ten a minute, a token of 160 bits is safe for
    /// ever, and one of eight random letters for forty thousand years. Six seconds is also the longest wait for a right
    /// token that comes first after wrong ones.
    pub const CLIENT: Self = Self { burst: 10, refill: Duration::from_secs(6) };

    /// The allowance of an IPv6 network of 56 bits, which many providers give to each customer (RFC 6177): that of two
    /// clients. Such a customer has 256 networks of 64 bits, at no cost.
    pub const NETWORK_56: Self = Self { burst: 20, refill: Duration::from_secs(3) };

    /// The allowance of an IPv6 network of 48 bits: a company's, or that of 256 customers of a provider who gives each
    /// 56 bits. The allowance of four clients is enough for those customers who make mistakes; a client whose token was
    /// right before does not need it.
    pub const NETWORK_48: Self = Self { burst: 40, refill: Duration::from_millis(1_500) };

    /// The allowance of all clients together at one site: that of ten clients. More wrong attempts are not mistakes: a
    /// site has one or a few installations of QueueMetrics. A hundred a minute are 144,000 a day, so a secret of eight
    /// random letters holds for four thousand years, however many addresses an attacker has.
    pub const SITE: Self = Self { burst: 100, refill: Duration::from_millis(600) };

    /// The time in which an empty bucket becomes full.
    pub const fn full_after(self) -> Duration {
        self.refill.saturating_mul(self.burst)
    }
}

/// Which buckets count a client's attempts at one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Only the client's own: attempts of others cannot lock it out.
    ForItself,
    /// Those of the wider IPv6 networks as well.
    WithNeighbours,
    /// Those of the wider IPv6 networks and that of all clients together.
    WithEverybody,
}

impl Counted {
    /// The keys of the buckets. `target` is what the client tries, `everybody` is what all clients together try.
    pub fn keys<T: Clone>(
        self,
        client: ClientKey,
        target: &T,
        everybody: &T,
    ) -> Vec<((Network, T), Allowance)> {
        let key = |network: (Network, Allowance)| ((network.0, target.clone()), network.1);
        let mut keys = vec![key(client.network())];
        if self != Self::ForItself {
            keys.extend(client.wider_networks().map(key));
        }
        if self == Self::WithEverybody {
            keys.push(((Network::EVERYBODY, everybody.clone()), Allowance::SITE));
        }
        keys
    }
}

/// Why an attempt is not checked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Running attempts have taken all places. As soon as one of them turns out to be right, a place is free again.
    UnderWay,
    /// Too many attempts were wrong; the next one is checked after this time.
    Wrong(Duration),
}

/// The state of one key. A bucket is removed when it is full and no attempt is running.
#[derive(Debug)]
struct Bucket {
    allowance: Allowance,
    /// When the bucket will be full again, if any attempt was wrong. The later, the emptier it is.
    full_at: Option<Instant>,
    /// Attempts whose outcome is not known yet.
    under_way: u32,
}

impl Bucket {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, full_at: None, under_way: 0 }
    }

    /// How long an attempt has to wait if `beside` others are running.
    fn wait(&self, beside: u32, now: Instant) -> Duration {
        let places = beside.saturating_add(1);
        let full_at =
            self.full_at.map_or(now, |at| at.max(now)) + self.allowance.refill.saturating_mul(places);
        full_at.saturating_duration_since(now + self.allowance.full_after())
    }
}

/// The buckets of all keys. A key takes memory from its first attempt until its bucket is full again.
#[derive(Debug)]
pub struct Buckets<K, S> {
    buckets: HashMap<K, Bucket, S>,
    max_len: usize,
    swept: Option<Instant>,
}

impl<K: Hash + Eq + Clone, S: BuildHasher> Buckets<K, S> {
    /// No attempts yet. At most `max_len` keys are kept; if there are more, the half that would be full soonest is
    /// removed.
    pub fn new(max_len: usize, hasher: S) -> Self {
        Self { buckets: HashMap::with_hasher(hasher), max_len, swept: None }
    }

    /// Reserves a place in the bucket of every key, for an attempt that has not been checked yet.
    ///
    /// # Errors
    /// [`Full`]; then no place is reserved.
    pub fn reserve(&mut self, keys: &[(K, Allowance)], now: Instant) -> Result<(), Full> {
        self.check(keys, now)?;
        for (key, allowance) in keys {
            self.bucket(key, *allowance).under_way += 1;
        }
        Ok(())
    }

    /// Checks whether another attempt would be accepted.
    ///
    /// # Errors
    /// [`Full`] if it would not.
    pub fn check(&self, keys: &[(K, Allowance)], now: Instant) -> Result<(), Full> {
        let buckets = || keys.iter().filter_map(|(key, _)| self.buckets.get(key));
        let wait = buckets().map(|bucket| bucket.wait(0, now)).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(Full::Wrong(wait));
        }
        match buckets().all(|bucket| bucket.wait(bucket.under_way, now).is_zero()) {
            true => Ok(()),
            false => Err(Full::UnderWay),
        }
    }

    /// Releases the places of an attempt.
    pub fn release(&mut self, keys: &[(K, Allowance)]) {
        for (key, _) in keys {
            let Some(bucket) = self.buckets.get_mut(key) else { continue };
            bucket.under_way = bucket.under_way.saturating_sub(1);
            if bucket.under_way == 0 && bucket.full_at.is_none() {
                self.buckets.remove(key);
            }
        }
    }

    /// Counts a wrong attempt. A bucket never gets emptier than empty: a client that stops is forgiven after
    /// [`Allowance::full_after`].
    pub fn wrong(&mut self, keys: &[(K, Allowance)], now: Instant) {
        self.sweep_if_due(now);
        for (key, allowance) in keys {
            let bucket = self.bucket(key, *allowance);
            let full_at = bucket.full_at.map_or(now, |at| at.max(now)) + allowance.refill;
            bucket.full_at = Some(full_at.min(now + allowance.full_after()));
        }
    }

    /// Number of keys that are kept.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// True if no key is kept.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn bucket(&mut self, key: &K, allowance: Allowance) -> &mut Bucket {
        self.buckets.entry(key.clone()).or_insert_with(|| Bucket::new(allowance))
    }

    fn sweep_if_due(&mut self, now: Instant) {
        let len = self.buckets.len();
        let pause = Allowance::CLIENT.full_after();
        let due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= pause);
        if (len >= SWEEP_FROM && due) || len >= self.max_len {
            self.sweep(now);
        }
    }

    /// Removes the buckets that are full. If too many are left, also removes those that would be full soonest.
    fn sweep(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| bucket.full_at > Some(now) || bucket.under_way > 0);
        if self.buckets.len() >= self.max_len {
            let mut times: Vec<_> = self.buckets.values().map(|bucket| bucket.full_at).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            // Half of the table is removed at a time, so that the next half can be added without a sweep.
            let mut surplus = self.buckets.len() - middle;
            self.buckets.retain(|_, bucket| {
                let kept = bucket.full_at > median || surplus == 0;
                surplus -= usize::from(!kept);
                kept
            });
        }
        self.buckets.shrink_to(2 * self.buckets.len());
        self.swept = Some(now);
    }
}

/// Digests of secrets that were right recently, each together with the client that presented it. The client is part of
/// the digest because otherwise the answer to a guess would show, from any address and at any rate, whether another
/// client uses that secret.
#[derive(Debug)]
pub struct RightLately<S> {
    digests: HashSet<u64, S>,
    max_len: usize,
}

impl<S: BuildHasher> RightLately<S> {
    /// An empty set of at most `max_len` digests.
    pub fn new(max_len: usize, hasher: S) -> Self {
        Self { digests: HashSet::with_hasher(hasher), max_len }
    }

    /// True if this was right recently.
    pub fn contains(&self, digest: u64) -> bool {
        self.digests.contains(&digest)
    }

    /// Adds a digest. If there are too many, all others are removed; those in use come back with their next attempt.
    pub fn insert(&mut self, digest: u64) {
        if self.digests.len() >= self.max_len && !self.digests.contains(&digest) {
            self.digests.clear();
        }
        self.digests.insert(digest);
    }

    /// Removes a digest that is no longer right. Returns true if it was in the set.
    pub fn remove(&mut self, digest: u64) -> bool {
        self.digests.remove(&digest)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test begins somewhere in time")]
mod tests;
