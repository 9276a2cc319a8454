use std::net::IpAddr;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn client(number: u32) -> ClientKey {
    IpAddr::from(number.to_be_bytes()).into()
}

fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

fn search(tenant: Option<&str>) -> Subject {
    Subject::search(client(1), &site("acme"), tenant)
}

/// Tries wrong tokens until one is not looked at any more.
fn exhaust(throttle: &Throttle, subject: &Subject, now: Instant) -> (u32, Throttled) {
    for tried in 0.. {
        match throttle.try_token(subject.clone(), Some("wrong"), now) {
            Ok(trial) => trial.wrong(now),
            Err(throttled) => return (tried, throttled),
        }
    }
    unreachable!("nothing is throttled");
}

#[test]
fn ten_wrong_tokens_are_looked_at_and_then_one_every_few_seconds() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    assert_eq!(exhaust(&throttle, &search(None), now), (BURST, Throttled { retry_after: REFILL }));
    assert_eq!(exhaust(&throttle, &search(None), now + REFILL).0, 1);
    assert_eq!(exhaust(&throttle, &search(None), now + HOUR).0, BURST, "all is forgiven");
}

#[test]
fn another_site_tenant_or_address_is_another_matter() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    exhaust(&throttle, &search(Some("blue")), now);
    for other in [
        search(None),
        search(Some("red")),
        Subject::search(client(1), &site("other"), Some("blue")),
        Subject::search(client(2), &site("acme"), Some("blue")),
        Subject::key(client(1), &site("acme")),
        Subject::code(client(1)),
        Subject::unknown(client(1)),
    ] {
        assert!(throttle.check(&other, now).is_ok(), "{other:?}");
    }
    assert!(throttle.check(&search(Some("blue")), now).is_err());
}

#[test]
fn a_token_that_was_right_passes_until_it_is_withdrawn() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    throttle.try_token(search(None), Some("right"), now).unwrap().right();
    exhaust(&throttle, &search(None), now);
    for _ in 0..100 {
        throttle.try_token(search(None), Some("right"), now).unwrap().right();
    }
    // It knows no other tenant, though.
    exhaust(&throttle, &search(Some("blue")), now);
    assert!(throttle.try_token(search(Some("blue")), Some("right"), now).is_err());
    throttle.try_token(search(None), Some("right"), now).unwrap().wrong(now);
    assert!(throttle.try_token(search(None), Some("right"), now).is_err());
}

#[test]
fn a_right_token_that_comes_first_behind_wrong_ones_waits_a_few_seconds_at_most() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let (_, throttled) = exhaust(&throttle, &search(None), now);
    assert!(throttled.retry_after <= REFILL);
    let trial = throttle.try_token(search(None), Some("right"), now + throttled.retry_after).unwrap();
    trial.right();
    assert!(throttle.try_token(search(None), Some("right"), now + throttled.retry_after).is_ok());
}

/// Tries so many different tokens at once; those that are under way.
fn try_at_once(throttle: &Throttle, tokens: std::ops::Range<u32>, now: Instant) -> Vec<Trial> {
    let tries = tokens.map(|n| throttle.try_token(search(None), Some(&format!("guess {n}")), now));
    tries.filter_map(Result::ok).collect()
}

#[test]
fn guesses_that_come_all_at_once_are_no_more_than_those_that_come_one_after_the_other() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let under_way = try_at_once(&throttle, 0..100, now);
    assert_eq!(under_way.len(), BURST as usize);
    under_way.into_iter().for_each(|trial| trial.wrong(now));
    assert!(try_at_once(&throttle, 100..200, now).is_empty());
    assert_eq!(try_at_once(&throttle, 200..300, now + 2 * REFILL).len(), 2);
}

#[test]
fn a_token_that_nobody_knows_yet_may_be_tried_often_at_once() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    let tried = || throttle.try_token(search(None), Some("new"), now);
    let under_way: Vec<_> = (0..100).map(|_| tried().unwrap()).collect();
    assert_eq!(try_at_once(&throttle, 0..100, now).len(), BURST as usize - 1, "it is one guess");
    under_way.into_iter().for_each(Trial::right);
    assert_eq!(throttle.lock().buckets.len(), 0, "nothing was wrong, nothing is remembered");
}

#[test]
fn places_of_attempts_that_were_never_judged_are_free_again() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    throttle.wrong(search(None), now);
    let under_way = try_at_once(&throttle, 0..100, now);
    assert_eq!(under_way.len(), BURST as usize - 1);
    drop(under_way);
    assert_eq!(try_at_once(&throttle, 100..200, now).len(), BURST as usize - 1);
}

#[test]
fn the_board_learns_what_was_refused_in_the_last_hour_and_since_when() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    assert_eq!(throttle.snapshot(&site("acme"), now), SiteThrottle::default());
    throttle.wrong(Subject::key(client(9), &site("acme")), now);
    throttle.wrong(Subject::unknown(client(9)), now);
    let seen = throttle.snapshot(&site("acme"), now);
    assert_eq!((seen.wrong_keys, seen.since), (1, None));
    exhaust(&throttle, &search(None), now);
    let seen = throttle.snapshot(&site("acme"), now);
    assert_eq!((seen.wrong_tokens, seen.wrong_keys, seen.throttled), (BURST, 1, 1));
    let since = seen.since.unwrap();
    let later = now + HOUR / 2;
    exhaust(&throttle, &search(None), later);
    let seen = throttle.snapshot(&site("acme"), later);
    assert_eq!((seen.wrong_tokens, seen.throttled), (2 * BURST, 2));
    assert!(seen.since.unwrap() >= since);
    let seen = throttle.snapshot(&site("acme"), later + HOUR / 2 + Duration::from_secs(60));
    assert_eq!((seen.wrong_tokens, seen.wrong_keys, seen.since), (BURST, 0, None));
    assert_eq!(throttle.snapshot(&site("acme"), now + 3 * HOUR), SiteThrottle::default());
}

#[test]
fn a_flood_from_many_addresses_fills_the_table_no_further_than_its_bound() {
    let (throttle, now) = (Throttle::default(), Instant::now());
    for number in 0..200_000 {
        throttle.wrong(Subject::unknown(client(number)), now + Duration::from_micros(u64::from(number)));
    }
    let pairs = throttle.lock().buckets.len();
    assert!((MAX_PAIRS / 4..=MAX_PAIRS).contains(&pairs), "{pairs}");
    // Whoever still floods is still remembered.
    exhaust(&throttle, &search(None), now);
    assert!(throttle.check(&search(None), now).is_err());
    for number in 0..1024 {
        throttle.wrong(Subject::unknown(client(number)), now + HOUR);
    }
    assert!(throttle.lock().buckets.len() < 2048, "what is forgiven is forgotten");
}

#[test]
fn what_is_wrong_at_another_relay_counts_here_but_is_refused_there() {
    let [here, there] = [(); 2].map(|()| Throttle::default());
    let now = Instant::now();
    let known = there.tell(None).number;
    exhaust(&there, &search(None), now);
    let told = there.tell(Some(known));
    assert_eq!(told.items.len(), BURST as usize);
    told.items.into_iter().for_each(|subject| here.hear(subject, now));
    assert_eq!(exhaust(&here, &search(None), now).0, 0);
    assert!(here.tell(Some(0)).items.is_empty(), "what was told goes no further");
    assert_eq!(here.snapshot(&site("acme"), now).wrong_tokens, 0);
}
