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
