//! Tests of expansion with examples, and against a naive implementation.

use proptest::prelude::*;

use super::*;
use crate::storage::call_id::CallIdRules;

const FOUR_HOURS: SignedDuration = SignedDuration::from_hours(4);

fn query(id: &str) -> Query {
    Query::new(CallIdRules::default().parse(id).unwrap())
}

fn at(local: &str) -> Timestamp {
    local.parse().unwrap()
}

fn paths(pattern: &str, query: &Query, zone: &str) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let show = |step: &Step| match step {
        Step::Exact(name) => name.clone(),
        Step::Like(pieces) => format!("{pieces:?}"),
    };
    expand(&Pattern::parse(pattern).unwrap(), query, &zone, FOUR_HOURS)
        .iter()
        .map(|way| way.iter().map(show).collect::<Vec<_>>().join("/"))
        .collect()
}

#[test]
fn a_call_in_the_afternoon_lies_in_one_day() {
    // 1711444502 is 10:15:02 in Madrid.
    assert_eq!(paths("file:/m/%YY/%MM/%DD", &query("1711444502.17"), "Europe/Madrid"), ["2024/03/26"]);
    assert_eq!(paths("file:/m/%YY/%ME", &query("1711444502.17"), "Europe/Madrid"), ["2024/Mar"]);
    assert_eq!(paths("file:/m", &query("1711444502.17"), "Europe/Madrid"), [""]);
}

#[test]
fn look_back_and_look_ahead_cross_midnight_and_the_new_year() {
    let mut asked = query("1711444502.17");
    asked.start = Some(at("2023-12-31T22:30:00Z"));
    assert_eq!(paths("file:/m/%YY/%MM/%DD", &asked, "UTC"), ["2023/12/31", "2024/01/01"]);
    assert_eq!(paths("file:/m/%YY", &asked, "UTC"), ["2023", "2024"]);
    assert_eq!(paths("file:/m/%DD", &asked, "America/New_York"), ["31"]);
}

#[test]
fn hours_are_listed_one_by_one_and_an_hour_that_is_skipped_is_not() {
    let mut asked = query("1711444502.17");
    // Madrid goes from 02:00 to 03:00 in that night.
    asked.start = Some(at("2024-03-31T01:30:00Z"));
    let hours = paths("file:/m/%DD/%HH", &asked, "Europe/Madrid");
    let expected = ["30/22", "30/23", "31/00", "31/01", "31/03", "31/04", "31/05", "31/06", "31/07"];
    assert_eq!(hours, expected);
}

#[test]
fn without_a_date_the_date_matches_any() {
    let asked = query("3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11");
    let ways =
        expand(&Pattern::parse("file:/m/%YY-%MM/%ME/%DD").unwrap(), &asked, &TimeZone::UTC, FOUR_HOURS);
    assert_eq!(ways.len(), 1);
    assert!(
        ways[0][0].admits(b"2024-03") && !ways[0][0].admits(b"2024-3") && !ways[0][0].admits(b"x2024-03")
    );
    assert!(ways[0][1].admits(b"Mar") && !ways[0][1].admits(b"mar"));
    assert!(ways[0][2].admits(b"26") && !ways[0][2].admits(b"026"));
}

#[test]
fn a_tenant_is_a_must_and_the_rest_are_wishes() {
    let mut asked = query("1711444502.17");
    assert!(paths("file:/m/%TE/x", &asked, "UTC").is_empty(), "nobody is not everybody");
    let any = expand(&Pattern::parse("file:/m/%QU").unwrap(), &asked, &TimeZone::UTC, FOUR_HOURS);
    assert!(any[0][0].admits(b"sales") && any[0][0].admits(b"\xff") && !any[0][0].admits(b".hidden"));
    asked.tenant = Some("shop.example.com".to_owned());
    asked.queue = Some("sales".to_owned());
    assert_eq!(paths("file:/m/%TE/%QU", &asked, "UTC"), ["shop.example.com/sales"]);
}

#[test]
fn agents_are_also_known_by_what_stands_behind_the_slash() {
    let mut asked = query("1711444502.17");
    asked.agent = Some("Agent/101".to_owned());
    assert_eq!(paths("file:/m/%AG", &asked, "UTC"), ["101"]);
    asked.agent = Some("101".to_owned());
    assert_eq!(paths("file:/m/%AG", &asked, "UTC"), ["101"]);
}

#[test]
fn the_server_comes_from_the_request_or_from_the_id() {
    let mut asked = query("pbx1-1711444502.17");
    assert_eq!(paths("file:/m/%SE", &asked, "UTC"), ["pbx1"]);
    asked.server = Some("pbx2".to_owned());
    assert_eq!(paths("file:/m/%SE", &asked, "UTC"), ["pbx2"]);
}

#[test]
fn values_from_outside_never_lead_elsewhere() {
    let long = "x".repeat(256);
    for evil in
        ["", "..", ".", ".ssh", "a/b", "/etc", "../x", "a\0b", "a\nb", "a\\b", &long, "Agent/", "Agent/.."]
    {
        let mut asked = query("1711444502.17");
        asked.tenant = Some(evil.to_owned());
        asked.agent = Some(evil.to_owned());
        assert!(paths("file:/m/%TE", &asked, "UTC").is_empty(), "{evil:?}");
        let agent = paths("file:/m/%AG", &asked, "UTC");
        assert!(agent.iter().all(|way| !way.contains('/') && !way.contains("..")), "{evil:?}: {agent:?}");
    }
}

proptest! {
    #[test]
    fn the_listed_dates_are_those_that_occur(
        start in 0i64..4_000_000_000,
        zone in prop::sample::select(vec![
            "UTC", "Europe/Madrid", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia",
            "America/Sao_Paulo",
        ]),
        minutes in 0i64..400,
        pattern in prop::sample::select(vec!["%YY/%MM/%DD/%HH", "%YY/%MM/%DD", "%YY/%MM", "%YY", "%DD/%HH"]),
    ) {
        let tz = TimeZone::get(zone).unwrap();
        let look_back = SignedDuration::from_mins(minutes);
        let mut asked = query("1711444502.17");
        asked.start = Some(Timestamp::from_second(start).unwrap());
        let ways = expand(&Pattern::parse(&format!("/m/{pattern}")).unwrap(), &asked, &tz, look_back);
        let listed: BTreeSet<String> = ways
            .iter()
            .map(|way| way.iter().map(|step| match step {
                Step::Exact(name) => name.clone(),
                Step::Like(_) => "?".to_owned(),
            }).collect::<Vec<_>>().join("/"))
            .collect();
        let format = pattern.replace("%YY", "%Y").replace("%MM", "%m").replace("%DD", "%d").replace("%HH", "%H");
        let naive: BTreeSet<String> = (-minutes * 60..=minutes * 60)
            .step_by(60)
            .map(|offset| {
                Timestamp::from_second(start + offset).unwrap().to_zoned(tz.clone()).strftime(&format).to_string()
            })
            .collect();
        prop_assert_eq!(listed, naive);
    }

    #[test]
    fn no_directory_of_another_tenant_is_admitted(
        components in prop::collection::vec(
            prop::collection::vec(prop::sample::select(vec!["%TE", "%TE", "%TE", "%QU", "%AG", "%SE", "-", "a"]), 1..3),
            1..4,
        ),
        names in prop::collection::vec(prop::sample::select(vec!["a", "v", "a-v", "v-a", "vip", "a-vip"]), 8),
        named in prop::collection::vec(any::<bool>(), 3),
    ) {
        let text: Vec<String> = components.iter().map(|parts| parts.concat()).collect();
        let pattern = Pattern::parse(&format!("file:/rec/{}", text.join("/"))).unwrap();
        prop_assume!(pattern.separates_tenants());
        let [tenant, other, server, queue, agent, its_server, its_queue, its_agent] = names.as_slice() else {
            unreachable!("eight names")
        };
        let mut asked = query("1711444502.17");
        asked.tenant = Some((*tenant).to_owned());
        asked.server = named[0].then(|| (*server).to_owned());
        asked.queue = named[1].then(|| (*queue).to_owned());
        asked.agent = named[2].then(|| (*agent).to_owned());
        let ways = expand(&pattern, &asked, &TimeZone::UTC, FOUR_HOURS);
        let admitted = |owner: &str, server: &str, queue: &str, agent: &str| {
            let places = [("%TE", owner), ("%SE", server), ("%QU", queue), ("%AG", agent)];
            let directory = places.iter().fold(text.join("/"), |path, (place, name)| path.replace(place, name));
            let file = Path::new("/rec").join(directory).join("beneath/in-1711444502.17.wav");
            let file = file.strip_prefix(pattern.root()).unwrap();
            ways.iter().any(|way| leads_to(way, file))
        };
        prop_assert!(admitted(tenant, server, queue, agent), "the tenant's own");
        prop_assert!(tenant == other || !admitted(other, its_server, its_queue, its_agent), "another's");
    }
}
