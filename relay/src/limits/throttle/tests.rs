use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

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

const BURST: u32 = Allowance::CLIENT.burst;
const REFILL: Duration = Allowance::CLIENT.refill;

impl Throttle {
    /// Tries a token at a moment. An attempt that would have to wait is refused.
    fn try_now(&self, subject: &Subject, token: Option<&str>, now: Instant) -> Result<Trial, Throttled> {
        self.try_certain(subject, token, true, now)
    }

    fn try_certain(
        &self,
        subject: &Subject,
        token: Option<&str>,
        certain: bool,
        now: Instant,
    ) -> Result<Trial, Throttled> {
        let values: Vec<String> = token.map(str::to_owned).into_iter().collect();
        let presented = self.presented(subject, Guess::Secret { values: &values, certain });
        match self.lock().enter(subject, &presented, now)? {
            Entry::Admitted(places) => Ok(self.trial(subject.clone(), presented, places)),
            Entry::Waits(_) => Err(Throttled::UnderWay),
        }
    }
}

/// Tries wrong tokens until one is not checked any more.
fn exhaust(throttle: &Throttle, subject: &Subject, now: Instant) -> (u32, Throttled) {
    for tried in 0.. {
        match throttle.try_now(subject, Some("wrong"), now) {
            Ok(trial) => trial.wrong(now),
            Err(throttled) => return (tried, throttled),
        }
    }
    unreachable!("nothing is throttled");
}

#[test]
fn ten_wrong_tokens_are_looked_at_and_then_one_every_few_seconds() {
    let throttle = Throttle::default();
    let now = Instant::now();
    assert_eq!(exhaust(&throttle, &search(None), now), (BURST, Throttled::Wrong { retry_after: REFILL }));
    assert_eq!(exhaust(&throttle, &search(None), now + REFILL).0, 1);
    assert_eq!(exhaust(&throttle, &search(None), now + HOUR).0, BURST, "all is forgiven");
}

#[test]
fn another_site_tenant_or_address_is_another_matter() {
    let throttle = Throttle::default();
    let now = Instant::now();
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
    let throttle = Throttle::default();
    let now = Instant::now();
    let right = |subject: &Subject| throttle.try_now(subject, Some("right"), now);
    right(&search(None)).unwrap().right();
    exhaust(&throttle, &search(None), now);
    for _ in 0..100 {
        right(&search(None)).unwrap().right();
    }
    // It is right for this tenant and this client alone: the response to a guess must show nothing to
    // another client.
    exhaust(&throttle, &search(Some("blue")), now);
    assert!(right(&search(Some("blue"))).is_err());
    let elsewhere = Subject::search(client(2), &site("acme"), None);
    exhaust(&throttle, &elsewhere, now);
    assert!(right(&elsewhere).is_err());
    right(&search(None)).unwrap().wrong(now);
    assert!(right(&search(None)).is_err());
}

#[test]
fn a_right_token_that_comes_first_behind_wrong_ones_waits_a_few_seconds_at_most() {
    let throttle = Throttle::default();
    let now = Instant::now();
    let (_, throttled) = exhaust(&throttle, &search(None), now);
    assert!(throttled.retry_after() <= REFILL);
    let later = now + throttled.retry_after();
    throttle.try_now(&search(None), Some("right"), later).unwrap().right();
    assert!(throttle.try_now(&search(None), Some("right"), later).is_ok());
}

#[test]
fn a_search_without_a_known_token_is_a_guess_of_its_own_and_never_known() {
    let throttle = Throttle::default();
    let now = Instant::now();
    for _ in 0..5 {
        throttle.try_now(&search(None), None, now).unwrap().right();
    }
    let tries = || throttle.try_now(&search(None), None, now).ok();
    let under_way: Vec<_> = (0..100).filter_map(|_| tries()).collect();
    assert_eq!(under_way.len(), BURST as usize);
    under_way.into_iter().for_each(|trial| trial.wrong(now));
    assert!(tries().is_none());
}

#[test]
fn a_value_that_was_right_and_then_wrong_is_no_token_unless_the_agent_stated_its_fields() {
    let throttle = Throttle::default();
    let now = Instant::now();
    // A dialect that the relay does not know: it takes the call id for the token.
    let call = |certain| throttle.try_certain(&search(None), Some("1711441902.17"), certain, now);
    call(false).unwrap().right();
    call(false).unwrap().wrong(now);
    call(false).unwrap().right();
    let under_way = (0..100).filter_map(|_| call(false).ok()).collect::<Vec<_>>();
    assert_eq!(under_way.len(), BURST as usize - 1, "it is not taken for right again");
    drop(under_way);
    call(true).unwrap().right();
    assert_eq!((0..100).filter_map(|_| call(true).ok()).collect::<Vec<_>>().len(), 100, "now it is stated");
}

#[test]
fn what_the_agent_throttles_is_not_sent_to_it_without_end() {
    let throttle = Throttle::default();
    let now = Instant::now();
    let passed = (0..100).filter_map(|_| throttle.try_now(&search(None), Some("wrong"), now).ok());
    assert_eq!(passed.map(|trial| trial.throttled(now)).count(), BURST as usize);
    assert_eq!(throttle.totals().wrong_tokens, 0, "it was not looked at");
}

/// Tries different tokens at once. Returns those that are under way.
fn try_at_once(throttle: &Throttle, tokens: std::ops::Range<u32>, now: Instant) -> Vec<Trial> {
    let tries = tokens.map(|n| throttle.try_now(&search(None), Some(&format!("guess {n}")), now));
    tries.filter_map(Result::ok).collect()
}

#[test]
fn guesses_that_come_all_at_once_are_no_more_than_those_that_come_one_after_the_other() {
    let throttle = Throttle::default();
    let now = Instant::now();
    let under_way = try_at_once(&throttle, 0..100, now);
    assert_eq!(under_way.len(), BURST as usize);
    under_way.into_iter().for_each(|trial| trial.wrong(now));
    assert!(try_at_once(&throttle, 100..200, now).is_empty());
    assert_eq!(try_at_once(&throttle, 200..300, now + 2 * REFILL).len(), 2);
}

/// A hundred searches at once, with the tokens that `token` gives; the agent finds all of them `right` or all
/// wrong. Returns how many were checked in all, and how many at a time at most.
async fn hundred_at_once(throttle: &Throttle, token: fn(u32) -> Option<String>, right: bool) -> [usize; 2] {
    let looked_at = AtomicUsize::new(0);
    let at_a_time = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    let searches = (0..100).map(|n| {
        let [looked_at, at_a_time, most] = [&looked_at, &at_a_time, &most];
        async move {
            let values: Vec<String> = token(n).into_iter().collect();
            let guess = Guess::Secret { values: &values, certain: true };
            let Ok(trial) = throttle.try_token(search(None), guess, until).await else { return };
            looked_at.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(at_a_time.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
            at_a_time.fetch_sub(1, Ordering::Relaxed);
            if right { trial.right() } else { trial.wrong(Instant::now()) }
        }
    });
    futures_util::future::join_all(searches).await;
    [looked_at, most].map(AtomicUsize::into_inner)
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_known_yet_may_be_used_often_at_once() {
    let throttle = Throttle::default();
    let begun = tokio::time::Instant::now();
    let [looked_at, _] = hundred_at_once(&throttle, |_| Some("new".to_owned()), true).await;
    assert_eq!(looked_at, 100);
    assert!(
        begun.elapsed() <= Duration::from_millis(1010),
        "the others go when one of the first ten was right"
    );
    assert_eq!(throttle.lock().buckets.len(), 0, "nothing was wrong, nothing is remembered");
}

#[tokio::test(start_paused = true)]
async fn right_tokens_that_the_relay_cannot_find_pass_ten_at_a_time() {
    assert_eq!(hundred_at_once(&Throttle::default(), |_| None, true).await, [100, 10]);
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_that_wait_for_others_are_not_looked_at() {
    assert_eq!(hundred_at_once(&Throttle::default(), |n| Some(n.to_string()), false).await, [10, 10]);
    assert_eq!(hundred_at_once(&Throttle::default(), |_| None, false).await, [10, 10]);
}

#[test]
fn places_of_attempts_that_were_never_judged_are_free_again() {
    let throttle = Throttle::default();
    let now = Instant::now();
    throttle.wrong(search(None), now);
    let under_way = try_at_once(&throttle, 0..100, now);
    assert_eq!(under_way.len(), BURST as usize - 1);
    drop(under_way);
    assert_eq!(try_at_once(&throttle, 100..200, now).len(), BURST as usize - 1);
}

#[test]
fn many_addresses_together_reach_a_ceiling_that_admits_clients_who_were_right() {
    let throttle = Throttle::default();
    let now = Instant::now();
    let at = |number: u32, token: &str, now| {
        throttle.try_now(&Subject::search(client(number), &site("acme"), None), Some(token), now)
    };
    at(1, "right", now).unwrap().right();
    let looked_at = (1000..2000).filter_map(|number| at(number, "guess", now).ok());
    assert_eq!(looked_at.map(|trial| trial.wrong(now)).count(), Allowance::SITE.burst as usize);
    assert!(throttle.snapshot(&site("acme"), now).ceiling_since.is_some(), "that is an alarm");
    at(1, "right", now).unwrap().right();
    at(1, "another tenant's", now).unwrap().right();
    assert!(at(3, "right", now).is_err(), "an unauthenticated client learns nothing");
    at(3, "right", now + Allowance::SITE.refill).unwrap().right();
    let other = Subject::search(client(2000), &site("other"), None);
    assert!(throttle.try_now(&other, Some("guess"), now).is_ok(), "another site is another matter");
    assert_eq!(throttle.snapshot(&site("acme"), now + HOUR / 2).ceiling_since, None);
}

#[test]
fn guesses_from_200_networks_of_one_customer_are_few() {
    let throttle = Throttle::default();
    let now = Instant::now();
    let at = |network: u128| {
        let address = std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) + (network << 64));
        Subject::search(IpAddr::from(address).into(), &site("acme"), None)
    };
    let guesses = (0..200).filter_map(|network| throttle.try_now(&at(network), Some("guess"), now).ok());
    let under_way: Vec<_> = guesses.collect();
    assert_eq!(under_way.len(), Allowance::NETWORK_56.burst as usize);
    assert_eq!(throttle.snapshot(&site("acme"), now).ceiling_since, None);
}

#[test]
fn forged_links_are_few_and_those_that_opened_go_on() {
    let throttle = Throttle::default();
    let now = Instant::now();
    let subject = Subject::link(client(1), &site("acme"));
    throttle.link_opened(&subject, ["good", "a.wav"]);
    let forged = (0..100).filter(|n| {
        let looked_at = throttle.check_link(&subject, ["good", &format!("{n}.wav")], now).is_ok();
        if looked_at {
            throttle.wrong(subject.clone(), now);
        }
        looked_at
    });
    assert_eq!(forged.count(), BURST as usize);
    throttle.check_link(&subject, ["good", "a.wav"], now).unwrap();
    throttle.check_link(&Subject::link(client(2), &site("acme")), ["new", "a.wav"], now).unwrap();
    throttle.check_link(&subject, ["new", "a.wav"], now + REFILL).unwrap();
    let seen = throttle.snapshot(&site("acme"), now);
    assert_eq!((seen.wrong_links, seen.throttled), (BURST, 90));
    assert!(throttle.report(Some(0)).items.is_empty(), "relays of an earlier version do not know of links");
}

#[test]
fn the_board_learns_what_was_refused_in_the_last_hour_and_since_when() {
    let throttle = Throttle::default();
    let now = Instant::now();
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
    let throttle = Throttle::default();
    let now = Instant::now();
    for number in 0..200_000 {
        throttle.wrong(Subject::unknown(client(number)), now + Duration::from_micros(u64::from(number)));
    }
    let pairs = throttle.lock().buckets.len();
    assert!((MAX_PAIRS / 4..=MAX_PAIRS).contains(&pairs), "{pairs}");
    // A client that still sends wrong attempts is still remembered.
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
    let known = there.report(None).number;
    exhaust(&there, &search(None), now);
    let report = there.report(Some(known));
    assert_eq!(report.items.len(), BURST as usize);
    report.items.into_iter().for_each(|subject| here.apply(&subject, now));
    assert_eq!(exhaust(&here, &search(None), now).0, 0);
    assert!(here.report(Some(0)).items.is_empty(), "a reported change goes no further");
    assert_eq!(here.snapshot(&site("acme"), now).wrong_tokens, 0);
}
