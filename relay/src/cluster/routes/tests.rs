use super::*;

fn acme() -> SiteId {
    SiteId::parse("acme").unwrap()
}

fn key(number: u8) -> LinkKeyId {
    format!("{number:016x}").try_into().unwrap()
}

fn any() -> AgentTarget {
    AgentTarget { site: acme(), key: None }
}

fn holder_of(number: u8) -> AgentTarget {
    AgentTarget { site: acme(), key: Some(key(number)) }
}

/// A tunnel of the site with a key of the same number.
fn route(number: u8, run: &str) -> RouteRecord {
    RouteRecord { site: acme(), session: format!("{number:024x}"), run: run.to_owned(), key: key(number) }
}

fn opened(number: u8, run: &str) -> RouteChange {
    RouteChange::Opened(route(number, run))
}

fn closed(number: u8, back_soon: bool) -> RouteChange {
    RouteChange::Closed { site: acme(), session: format!("{number:024x}"), back_soon }
}

/// The leases of these relays.
fn leases(leases: &[(&str, i64)]) -> LeaseReading {
    let record = |(run, lease_ms): &(&str, i64)| NodeRecord {
        run: (*run).to_owned(),
        url: format!("http://{run}"),
        lease_ms: *lease_ms,
        lease_age: Duration::ZERO,
    };
    LeaseReading { records: leases.iter().map(record).collect(), after_gap: false }
}

/// The run that is found if the tunnels with these numbers were tried.
fn found(routes: &mut Routes, target: &AgentTarget, tried: &[u8]) -> Result<String, NoSession> {
    let tried = tried.iter().map(|number| Node {
        run: "any".into(),
        url: "http://any".into(),
        tunnel: session_id(&format!("{number:024x}")),
    });
    routes.find(target, &tried.collect::<Vec<_>>()).map(|node| node.run.to_string())
}

fn two_nodes(now: Instant) -> Routes {
    let mut routes = Routes::default();
    let news = routes.apply_leases(leases(&[("a", 1), ("b", 1)]), now, now);
    assert_eq!((news.came.len(), news.lost.len()), (2, 0));
    routes
}

#[test]
fn a_request_goes_to_a_relay_with_a_tunnel_and_the_key_of_its_link() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    assert_eq!(found(&mut routes, &any(), &[]), Err(NoSession::Offline));
    routes.apply(opened(1, "a"), "own", now);
    routes.apply(opened(2, "b"), "own", now);
    routes.apply(opened(2, "b"), "own", now);
    assert_eq!(routes.len(), (1, 2), "reported twice is one");
    assert_eq!(found(&mut routes, &holder_of(2), &[]), Ok("b".to_owned()));
    assert_eq!(found(&mut routes, &holder_of(3), &[]), Err(NoSession::OtherKey));
    assert_eq!(found(&mut routes, &holder_of(2), &[2]), Err(NoSession::OtherKey));
    assert_eq!(found(&mut routes, &any(), &[1, 2]), Err(NoSession::Offline));
    let mut turns: Vec<_> = (0..4).map(|_| found(&mut routes, &any(), &[]).unwrap()).collect();
    turns.sort();
    assert_eq!(turns, ["a", "a", "b", "b"], "they take turns");
}

#[test]
fn a_relay_that_renews_no_lease_is_lost_and_its_agents_are_waited_for() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    let later = now + LEASE;
    let news = routes.apply_leases(leases(&[("a", 1), ("b", 2)]), later, later);
    assert_eq!(news.lost.iter().map(|node| &*node.run).collect::<Vec<_>>(), ["a"]);
    assert_eq!(found(&mut routes, &any(), &[]), Err(NoSession::Offline));
    assert_eq!(routes.returns_by(&holder_of(1), later), Some(later + RETURN_TIME));
    assert_eq!(routes.returns_by(&holder_of(2), later), None);
    assert_eq!(routes.returns_by(&any(), later + RETURN_TIME), None);
    // It was only paused.
    let news = routes.apply_leases(leases(&[("a", 2), ("b", 3)]), later, later);
    assert_eq!(news.came.len(), 1);
    assert_eq!(found(&mut routes, &any(), &[]), Ok("a".to_owned()));
}

#[test]
fn no_relay_is_lost_because_the_database_was_away() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    let back = now + 10 * LEASE;
    assert_eq!(
        routes.apply_leases(LeaseReading { after_gap: true, ..leases(&[("a", 1), ("b", 1)]) }, back, back),
        NodeNews::default()
    );
    assert_eq!(routes.apply_leases(leases(&[("a", 1), ("b", 2)]), back + LEASE, back + LEASE).lost.len(), 1);
}

#[test]
fn a_relay_that_says_that_it_stops_is_lost_at_once() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    assert_eq!(routes.apply_leases(leases(&[("b", 2)]), now, now).lost.len(), 1);
    assert_eq!(routes.nodes().map(|node| node.run.to_string()).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_relay_that_does_not_answer_is_not_asked_until_it_renews_its_lease() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    assert!(routes.suspect("a", now) && !routes.suspect("a", now), "reported once");
    assert_eq!(found(&mut routes, &any(), &[]), Err(NoSession::Offline));
    assert!(routes.returns_by(&any(), now).is_some());
    routes.apply_leases(leases(&[("a", 1), ("b", 2)]), now, now);
    assert_eq!(found(&mut routes, &any(), &[]), Err(NoSession::Offline));
    routes.apply_leases(leases(&[("a", 2), ("b", 3)]), now, now);
    assert_eq!(found(&mut routes, &any(), &[]), Ok("a".to_owned()));
}

/// A relay renews its lease, is killed, and a request finds it dead; then the leases are read.
#[test]
fn a_lease_from_before_a_failure_does_not_bring_a_dead_relay_back() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    assert!(routes.suspect("a", now + second));
    let news = routes.apply_leases(leases(&[("a", 2), ("b", 2)]), now + second / 2, now + second);
    assert_eq!(news, NodeNews::default(), "this reading began before the failure");
    let news = routes.apply_leases(leases(&[("a", 3), ("b", 2)]), now + second, now + second);
    assert_eq!(news, NodeNews::default(), "the lease may have been written before the failure");
    let gap = LeaseReading { after_gap: true, ..leases(&[("a", 3), ("b", 3)]) };
    assert_eq!(routes.apply_leases(gap, now + 2 * second, now + 2 * second), NodeNews::default());
    assert!(routes.is_lost("a") && routes.returns_by(&any(), now + 2 * second).is_some());
    let news = routes.apply_leases(leases(&[("a", 4), ("b", 4)]), now + 3 * second, now + 3 * second);
    assert_eq!(news.came.len(), 1, "it lives: it has renewed its lease since");
    assert_eq!(found(&mut routes, &any(), &[]), Ok("a".to_owned()));
}

#[test]
fn a_dead_relay_that_never_said_that_it_stops_is_not_taken_for_a_new_one() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    let with_dead = |lease_ms, age| {
        let mut reading = leases(&[("a", lease_ms), ("b", lease_ms), ("dead", 1)]);
        reading.records[2].lease_age = age;
        reading
    };
    assert_eq!(routes.apply_leases(with_dead(2, LEASE), now, now), NodeNews::default());
    assert!(routes.is_lost("dead"));
    // Killed a moment ago and without a tunnel: a reading of all routes must not forget that it is lost.
    routes.suspect("a", now);
    routes.replace(Reading::default(), "own", now);
    assert_eq!(routes.apply_leases(with_dead(3, 2 * LEASE), now, now), NodeNews::default());
    assert!(routes.is_lost("a") && routes.is_lost("dead"));
}

#[test]
fn late_news_of_a_dead_relay_does_not_end_the_wait_for_its_agents() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.expect(vec![(acme(), key(1))], now);
    routes.suspect("a", now);
    routes.apply(opened(1, "a"), "own", now);
    assert!(routes.returns_by(&holder_of(1), now).is_some());
    assert_eq!(found(&mut routes, &any(), &[]), Err(NoSession::Offline));
}

#[test]
fn an_agent_at_a_relay_that_has_just_begun_is_waited_for_until_its_address_is_known() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "new"), "own", now);
    assert_eq!(found(&mut routes, &any(), &[]), Err(NoSession::Offline));
    assert_eq!(routes.returns_by(&any(), now), Some(now + LEASE));
    routes.apply_leases(leases(&[("a", 2), ("b", 2), ("new", 1)]), now, now);
    assert_eq!(found(&mut routes, &any(), &[]), Ok("new".to_owned()));
}

#[test]
fn who_did_not_answer_is_tried_again_while_no_lease_can_be_renewed() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    routes.suspect("a", now);
    routes.leases_unreadable(now + LEASE / 2);
    assert!(routes.is_lost("a"));
    routes.leases_unreadable(now + LEASE);
    assert!(!routes.is_lost("a"));
    // A relay that had ended its lease before is not tried.
    routes.apply_leases(leases(&[("b", 2)]), now + LEASE, now + LEASE);
    routes.leases_unreadable(now + 9 * LEASE);
    assert!(routes.is_lost("a"));
}

#[test]
fn an_agent_whose_tunnel_ended_is_waited_for_unless_it_said_goodbye_or_is_back_already() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    routes.apply(closed(1, true), "own", now);
    assert!(routes.returns_by(&holder_of(1), now).is_some() && !routes.holds(&acme()));
    routes.apply(RouteChange::Opened(RouteRecord { key: key(1), ..route(9, "own") }), "own", now);
    assert_eq!(routes.returns_by(&holder_of(1), now), None, "it is back, and here");
    assert_eq!(routes.len(), (0, 0), "what is here is no route");
    routes.apply(opened(1, "a"), "own", now);
    routes.apply(closed(1, false), "own", now);
    assert_eq!(routes.returns_by(&any(), now), None, "it said goodbye");
    routes.apply(opened(1, "a"), "own", now);
    routes.apply(RouteChange::Opened(RouteRecord { key: key(1), ..route(8, "b") }), "own", now);
    routes.apply(closed(1, true), "own", now);
    assert_eq!(routes.returns_by(&any(), now), None, "it had another tunnel by then");
    assert_eq!(found(&mut routes, &holder_of(1), &[]), Ok("b".to_owned()));
}

#[test]
fn a_relay_that_was_just_started_knows_whom_others_wait_for() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(2, "a"), "own", now);
    routes.expect(vec![(acme(), key(1)), (acme(), key(2))], now);
    assert!(routes.returns_by(&holder_of(1), now).is_some());
    assert_eq!(routes.returns_by(&holder_of(2), now), None, "it is back already");
}

#[test]
fn what_a_relay_says_that_it_does_not_hold_is_no_route() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    for number in [1, 2] {
        routes.apply(opened(number, "a"), "own", now);
    }
    routes.stale("a", &holder_of(1), now);
    assert_eq!(found(&mut routes, &holder_of(2), &[]), Ok("a".to_owned()));
    assert_eq!(found(&mut routes, &holder_of(1), &[]), Err(NoSession::OtherKey));
    assert!(routes.returns_by(&holder_of(1), now).is_some());
    routes.stale("a", &any(), now);
    assert_eq!(routes.len(), (0, 0));
}

#[test]
fn a_full_reading_corrects_missed_changes() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    routes.apply(opened(2, "b"), "own", now);
    let mut read = Reading::default();
    read.add(route(2, "b"));
    read.add(route(3, "c"));
    routes.replace(read, "own", now);
    assert_eq!(routes.len(), (1, 2));
    assert!(routes.returns_by(&holder_of(1), now).is_some(), "its end was not reported");
    assert_eq!(found(&mut routes, &holder_of(2), &[]), Ok("b".to_owned()));
    assert_eq!(
        found(&mut routes, &holder_of(3), &[]),
        Err(NoSession::OtherKey),
        "where c is, is not known yet"
    );
    routes.apply_leases(leases(&[("a", 2), ("b", 2), ("c", 1)]), now, now);
    assert_eq!(found(&mut routes, &holder_of(3), &[]), Ok("c".to_owned()));
}

#[test]
fn changes_during_a_full_reading_are_not_lost() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(1, "a"), "own", now);
    routes.begin_reading();
    let mut read = Reading::default();
    read.add(route(1, "a"));
    routes.apply(closed(1, false), "own", now);
    routes.apply(opened(2, "b"), "own", now);
    routes.replace(read, "own", now);
    assert_eq!(found(&mut routes, &holder_of(2), &[]), Ok("b".to_owned()));
    assert_eq!(found(&mut routes, &holder_of(1), &[]), Err(NoSession::OtherKey));
}

#[test]
fn relays_that_are_gone_and_hold_nothing_are_forgotten() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    routes.apply(opened(2, "b"), "own", now);
    routes.apply_leases(leases(&[("b", 2)]), now, now);
    let mut read = Reading::default();
    read.add(route(2, "b"));
    let later = now + LEASE;
    routes.replace(read, "own", later);
    assert!(routes.is_lost("a"));
    routes.apply_leases(leases(&[("b", 3), ("c", 1)]), later, later);
    assert_eq!(routes.nodes.len(), 2, "the next one has its place");
    assert_eq!(found(&mut routes, &any(), &[]), Ok("b".to_owned()));
}

#[test]
fn changes_while_parts_are_put_in_place_are_kept() {
    let now = Instant::now();
    let mut routes = two_nodes(now);
    let sites: Vec<SiteId> = (0..1000).map(|n| SiteId::parse(&format!("site-{n}")).unwrap()).collect();
    let one = |site: &SiteId, number: u8| RouteRecord { site: site.clone(), ..route(number, "a") };
    routes.begin_reading();
    let mut read = Reading::default();
    sites.iter().for_each(|site| read.add(one(site, 1)));
    let places = routes.places(&read, now);
    for (step, part) in read.parts(&places).enumerate() {
        // Half of the parts are in place by now.
        if step == PARTS / 2 {
            for site in &sites {
                routes.apply(RouteChange::Opened(one(site, 2)), "own", now);
                let session = route(1, "a").session;
                let site = site.clone();
                routes.apply(RouteChange::Closed { site, session, back_soon: false }, "own", now);
            }
            // A relay that appears in nothing that was read.
            routes.apply(opened(3, "d"), "own", now);
            routes.suspect("d", now);
        }
        routes.replace_part(part, "own", now);
    }
    routes.end_reading(&places, now);
    assert_eq!(routes.len(), (1001, 1001));
    for site in sites {
        let [before, after] = [1, 2].map(|number| AgentTarget { site: site.clone(), key: Some(key(number)) });
        assert_eq!(found(&mut routes, &after, &[]), Ok("a".to_owned()));
        assert_eq!(found(&mut routes, &before, &[]), Err(NoSession::OtherKey));
        assert_eq!(routes.returns_by(&before, now), None, "it said goodbye");
    }
    for lease in [1, 2] {
        routes.apply_leases(leases(&[("a", lease + 1), ("b", lease + 1), ("d", lease)]), now, now);
    }
    assert_eq!(found(&mut routes, &holder_of(3), &[]), Ok("d".to_owned()));
    assert_eq!(routes.counts(), [1000, 0, 1]);
}
