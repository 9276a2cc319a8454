//! Limits wrong attempts at search tokens, site keys, enrolment codes and links, for relay and agent alike, and says
//! which addresses count as one client.
//!
//! Every attempt belongs to one or several keys, such as a client and what it tries. Each key has an [`Allowance`]: a
//! bucket of wrong attempts that refills over time. An attempt reserves a place in the bucket before its outcome is
//! known, as if it were wrong. Otherwise two hundred concurrent attempts would all be checked.
//!
//! Pure: the caller brings the time and the keys of the hash tables.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasher, Hash},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

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

/// A client as limits see it: an IPv4 address, or the first 64 bits of an IPv6 address. A provider gives every customer
/// at least such a network of 2⁶⁴ addresses (RFC 6177), so a single IPv6 address says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientKey(IpAddr);

/// A network for which attempts are counted: a client, a wider network that its provider may have given to the same
/// customer, or all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    first: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// All clients together.
    pub const ALL_CLIENTS: Self = Self { first: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix_len: 0 };

    fn of_ipv6(address: Ipv6Addr, prefix_len: u8) -> Self {
        let host_bits = 128 - u32::from(prefix_len);
        let first =
            u128::from(address).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0);
        Self { first: IpAddr::V6(Ipv6Addr::from(first)), prefix_len }
    }
}

impl ClientKey {
    /// The client's own network, with its allowance.
    pub fn network(self) -> (Network, Allowance) {
        let network = match self.0 {
            IpAddr::V4(_) => Network { first: self.0, prefix_len: 32 },
            IpAddr::V6(address) => Network::of_ipv6(address, 64),
        };
        (network, Allowance::CLIENT)
    }

    /// The wider networks of which an IPv6 client may have all addresses. None for IPv4, where every address costs
    /// money.
    pub fn wider_networks(self) -> impl Iterator<Item = (Network, Allowance)> {
        let wider = match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some([
                (Network::of_ipv6(address, 56), Allowance::NETWORK_56),
                (Network::of_ipv6(address, 48), Allowance::NETWORK_48),
            ]),
        };
        wider.into_iter().flatten()
    }
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }
}

impl fmt::Display for ClientKey {
    /// An address, or a network with its prefix length (RFC 4291, section 2.3).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
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
    WithAllClients,
}

impl Counted {
    /// The keys of the buckets. `target` is what the client tries, `shared` is what all clients together try.
    pub fn keys<T: Clone>(self, client: ClientKey, target: &T, shared: &T) -> Vec<((Network, T), Allowance)> {
        let key = |network: (Network, Allowance)| ((network.0, target.clone()), network.1);
        let mut keys = vec![key(client.network())];
        if self != Self::ForItself {
            keys.extend(client.wider_networks().map(key));
        }
        if self == Self::WithAllClients {
            keys.push(((Network::ALL_CLIENTS, shared.clone()), Allowance::SITE));
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
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;

    type Hasher = BuildHasherDefault<DefaultHasher>;

    const ONE: &[(u32, Allowance)] = &[(1, Allowance::CLIENT)];

    fn buckets(max_len: usize) -> Buckets<u32, Hasher> {
        Buckets::new(max_len, Hasher::default())
    }

    #[test]
    fn attempts_under_way_are_no_more_than_may_be_wrong() {
        let mut buckets = buckets(100);
        let now = Instant::now();
        let burst = Allowance::CLIENT.burst;
        let reserved = (0..100).filter(|_| buckets.reserve(ONE, now).is_ok()).count();
        assert_eq!(reserved, burst as usize);
        assert_eq!(buckets.reserve(ONE, now), Err(Full::UnderWay));
        buckets.release(ONE);
        buckets.reserve(ONE, now).unwrap();
        for _ in 0..burst {
            buckets.wrong(ONE, now);
            buckets.release(ONE);
        }
        assert_eq!(buckets.reserve(ONE, now), Err(Full::Wrong(Allowance::CLIENT.refill)));
        let later = now + Allowance::CLIENT.refill;
        buckets.reserve(ONE, later).unwrap();
        assert_eq!(buckets.reserve(ONE, later), Err(Full::UnderWay));
    }

    #[test]
    fn an_attempt_that_ends_well_leaves_nothing_behind() {
        let mut buckets = buckets(100);
        buckets.reserve(ONE, Instant::now()).unwrap();
        buckets.release(ONE);
        assert!(buckets.is_empty());
    }

    #[test]
    fn an_attempt_needs_a_place_in_every_bucket() {
        let mut buckets = buckets(100);
        let now = Instant::now();
        let wide = Allowance { burst: 3, refill: Duration::from_secs(1) };
        let keys = |client: u32| [(client, Allowance::CLIENT), (0, wide)];
        for client in 1..=3 {
            buckets.reserve(&keys(client), now).unwrap();
            buckets.wrong(&keys(client), now);
            buckets.release(&keys(client));
        }
        assert_eq!(buckets.reserve(&keys(4), now), Err(Full::Wrong(wide.refill)));
        assert_eq!(buckets.len(), 4, "a refused attempt takes no place");
        buckets.reserve(&keys(4), now + wide.refill).unwrap();
    }

    #[test]
    fn what_was_right_lately_is_bounded() {
        let mut right = RightLately::new(2, Hasher::default());
        [1, 2, 2, 1].into_iter().for_each(|digest| right.insert(digest));
        assert!(right.contains(1) && right.contains(2));
        right.insert(3);
        assert!(right.contains(3) && !right.contains(1));
        assert!(right.remove(3) && !right.remove(3));
    }

    /// How many wrong attempts are checked, one from each of these addresses.
    fn looked_at(addresses: impl Iterator<Item = IpAddr>, counted: Counted) -> usize {
        let mut buckets = Buckets::new(10_000, Hasher::default());
        let now = Instant::now();
        let attempts = addresses.filter(|address| {
            let keys = counted.keys((*address).into(), &"tenant", &"site");
            let looked_at = buckets.reserve(&keys, now).is_ok();
            if looked_at {
                buckets.wrong(&keys, now);
                buckets.release(&keys);
            }
            looked_at
        });
        attempts.count()
    }

    #[test]
    fn many_networks_of_one_customer_are_not_many_clients() {
        let address = |bits: u32, n: u128| Ipv6Addr::from((0x2001_0db8_u128 << 96) + (n << bits)).into();
        let of = |bits: u32| (0..200).map(move |n| address(bits, n));
        // 200 networks of 64 bits within one of 56 bits, then within one of 48 bits, then 200 networks of 48 bits.
        assert_eq!(looked_at(of(64), Counted::WithAllClients), 20);
        assert_eq!(looked_at(of(72), Counted::WithAllClients), 40);
        assert_eq!(looked_at(of(80), Counted::WithAllClients), 100);
        assert_eq!(looked_at(of(80), Counted::WithNeighbours), 200);
        assert_eq!(looked_at(of(64), Counted::ForItself), 200);
        let ipv4 = (0..200).map(|n| IpAddr::from([192, 0, 2, n]));
        assert_eq!(looked_at(ipv4, Counted::WithAllClients), 100);
    }

    #[test]
    fn networks_of_a_customer_are_those_of_its_neighbours() {
        let wider = |text: &str| {
            ClientKey::from(text.parse::<IpAddr>().unwrap())
                .wider_networks()
                .map(|wide| wide.0)
                .collect::<Vec<_>>()
        };
        let [first, same_56, same_48, other] =
            ["2001:db8:0:1::1", "2001:db8:0:ff::1", "2001:db8:0:100::1", "2001:db8:1:1::1"].map(wider);
        assert_eq!(first, same_56);
        assert!(first[0] != same_48[0] && first[1] == same_48[1]);
        assert_ne!(first[1], other[1]);
        assert!(wider("192.0.2.1").is_empty() && wider("::ffff:192.0.2.1").is_empty());
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_ipv4_in_ipv6_is_ipv4() {
        let key = |text: &str| ClientKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:0:1::7").to_string(), "2001:db8:0:1::/64");
        assert_eq!(key("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.2"), key("192.0.2.1"));
    }
}
