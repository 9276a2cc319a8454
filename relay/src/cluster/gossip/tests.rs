use proptest::prelude::*;

use super::*;
use crate::{limits::LimitsConfig, store::Traffic};

fn gossip() -> Gossip {
    Gossip::new(Arc::new(Limits::new(&LimitsConfig::default())))
}

fn node(run: &str) -> Node {
    Node { run: run.into(), url: format!("http://{run}").into(), tunnel: None }
}

fn site(name: &str) -> SiteId {
    SiteId::parse(name).unwrap()
}

/// A site with this number of searches in each minute.
fn counted(minutes: &[(i64, u64)]) -> SitePart {
    let total =
        |(minute, searches): &(i64, u64)| (*minute, Traffic { searches: *searches, ..Traffic::default() });
    SitePart { minutes: minutes.iter().map(total).collect(), ..SitePart::default() }
}

fn report(number: u64, site: &SiteId, part: SitePart) -> NodeReport {
    NodeReport { change: PartsChange { number, parts: vec![(site.clone(), part)] }, ..NodeReport::default() }
}

/// The searches that are seen of a site, with the runs that counted them.
fn seen(gossip: &Gossip, site: &SiteId) -> Vec<(String, u64)> {
    let mut seen = Vec::new();
    gossip.each(site, |run, _, minutes| seen.push((run.to_string(), minutes.sum().searches)));
    seen.sort();
    seen
}

#[test]
fn what_a_relay_counted_before_its_first_report_is_seen_too() {
    let gossip = gossip();
    let acme = site("acme");
    gossip.apply(&node("a"), 0, report(1, &acme, counted(&[(1, 100)])));
    assert_eq!(seen(&gossip, &acme), [("a".to_owned(), 100)]);
    assert_eq!(gossip.question(&node("a")).since, 1);
    gossip.apply(&node("a"), 1, report(3, &acme, counted(&[(2, 3)])));
    assert_eq!(seen(&gossip, &acme), [("a".to_owned(), 103)]);
    gossip.keep(&[node("b")]);
    assert!(seen(&gossip, &acme).is_empty());
    assert_eq!(gossip.question(&node("a")).since, 0, "a relay that was forgotten reports everything");
}

#[test]
fn a_report_of_changes_alone_does_not_count_as_complete_for_a_relay_that_forgot_the_rest() {
    let gossip = gossip();
    let acme = site("acme");
    gossip.apply(&node("a"), 0, report(1, &acme, counted(&[(1, 100)])));
    gossip.keep(&[]);
    gossip.apply(&node("a"), 1, report(2, &acme, counted(&[(2, 3)])));
    assert_eq!(gossip.question(&node("a")).since, 0);
}

/// What may happen between two relays.
#[derive(Debug, Clone)]
enum Step {
    /// The first relay counts a search in a minute.
    Count(i64),
    /// The second relay asks; the response is on its way.
    Ask,
    /// One of the responses on their way arrives; it may arrive again.
    Arrive(prop::sample::Index),
    /// One of them is lost.
    Lose(prop::sample::Index),
    /// The second relay thinks that the first is dead, and forgets it.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_i64).prop_map(Step::Count),
        4 => Just(Step::Ask),
        4 => any::<prop::sample::Index>().prop_map(Step::Arrive),
        2 => any::<prop::sample::Index>().prop_map(Step::Lose),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn tellings_that_are_lost_doubled_and_late_end_with_equal_counts(steps in prop::collection::vec(step(), 0..60)) {
        let acme = site("acme");
        let counts = gossip();
        let sees = gossip();
        let mut minutes = Minutes::default();
        let mut under_way: Vec<(u64, NodeReport)> = Vec::new();
        let publish = |minutes: &Minutes| {
            counts.publish(&acme, SitePart { minutes: minutes.iter().collect(), ..SitePart::default() }, true);
        };
        let ask = || {
            let question = sees.question(&node("a"));
            (question.since, counts.report(&question))
        };
        for step in steps {
            match step {
                Step::Count(minute) => {
                    minutes.add(minute, Traffic { searches: 1, ..Traffic::default() });
                    publish(&minutes);
                }
                Step::Ask => under_way.push(ask()),
                Step::Arrive(at) if !under_way.is_empty() => {
                    let (since, report) = at.get(&under_way);
                    // As it comes over the wire.
                    let report = serde_json::from_slice(&serde_json::to_vec(report).unwrap()).unwrap();
                    sees.apply(&node("a"), *since, report);
                }
                Step::Lose(at) if !under_way.is_empty() => {
                    under_way.swap_remove(at.index(under_way.len()));
                }
                Step::Arrive(_) | Step::Lose(_) => {}
                Step::Forget => sees.keep(&[]),
            }
            let report: u64 = seen(&sees, &acme).iter().map(|(_, searches)| searches).sum();
            prop_assert!(report <= minutes.sum().searches, "no search is counted twice");
        }
        let (since, report) = ask();
        sees.apply(&node("a"), since, report);
        let report: u64 = seen(&sees, &acme).iter().map(|(_, searches)| searches).sum();
        prop_assert_eq!(report, minutes.sum().searches);
    }
}
