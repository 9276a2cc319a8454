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
fn looked_at(addresses: impl Iterator<Item = std::net::IpAddr>, counted: Counted) -> usize {
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
    let address =
        |bits: u32, n: u128| std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) + (n << bits)).into();
    let of = |bits: u32| (0..200).map(move |n| address(bits, n));
    // 200 networks of 64 bits within one of 56 bits, then within one of 48 bits, then 200 networks of 48 bits.
    assert_eq!(looked_at(of(64), Counted::WithEverybody), 20);
    assert_eq!(looked_at(of(72), Counted::WithEverybody), 40);
    assert_eq!(looked_at(of(80), Counted::WithEverybody), 100);
    assert_eq!(looked_at(of(80), Counted::WithNeighbours), 200);
    assert_eq!(looked_at(of(64), Counted::ForItself), 200);
    let ipv4 = (0..200).map(|n| std::net::IpAddr::from([192, 0, 2, n]));
    assert_eq!(looked_at(ipv4, Counted::WithEverybody), 100);
}
