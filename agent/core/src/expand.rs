//! Expands a pattern and a query to the directories that may contain the recording. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use crate::{
    pattern::{Granularity, Part, Pattern, Placeholder},
    query::Query,
};

/// Longest name of a directory in bytes (`NAME_MAX` of Linux).
const MAX_NAME_LEN: usize = 255;
/// The interval at which local time is sampled to list hours: time zones differ by multiples of a quarter of an hour.
const HOUR_STEP: SignedDuration = SignedDuration::from_mins(15);
/// The interval at which local time is sampled to list days, months and years; no day is shorter.
const DAY_STEP: SignedDuration = SignedDuration::from_hours(1);

/// How one level of directories is entered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Exactly this directory.
    Exact(String),
    /// Every directory whose name consists of these pieces.
    Like(Vec<Piece>),
}

/// A piece of a directory's name, if its value may be unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// This text.
    Text(String),
    /// This number of digits.
    Digits(usize),
    /// `Jan` to `Dec`.
    MonthName,
    /// One or more bytes of any kind.
    Anything,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Step {
    /// Whether a directory with this name is entered. A name with placeholders never matches one that starts with a
    /// dot.
    pub fn admits(&self, name: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == name,
            Self::Like(pieces) => !name.starts_with(b".") && like(pieces, name),
        }
    }
}

fn like(pieces: &[Piece], name: &[u8]) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return name.is_empty() };
    match piece {
        Piece::Text(text) => name.strip_prefix(text.as_bytes()).is_some_and(|name| like(rest, name)),
        Piece::Digits(count) => name
            .split_at_checked(*count)
            .is_some_and(|(digits, name)| digits.iter().all(u8::is_ascii_digit) && like(rest, name)),
        Piece::MonthName => name.split_at_checked(3).is_some_and(|(month, name)| {
            MONTHS.iter().any(|known| known.as_bytes() == month) && like(rest, name)
        }),
        Piece::Anything => (1..=name.len()).any(|end| like(rest, &name[end..])),
    }
}

/// All ways down from a pattern's root, without duplicates and in order. Empty if the pattern cannot answer the
/// query: it needs a tenant and the query has none, or a value is not a valid directory name.
pub fn expand(
    pattern: &Pattern,
    query: &Query,
    zone: &TimeZone,
    look_back: SignedDuration,
) -> Vec<Vec<Step>> {
    let mut ways: Vec<Values> = match (pattern.granularity(), query.began()) {
        (Some(granularity), Some(began)) => dates(began, look_back, zone, granularity),
        (None, _) | (_, None) => vec![Values::new()],
    };
    let server = query.server.as_deref().or(query.call_id.server());
    for (place, value) in [
        (Placeholder::Tenant, query.tenant.as_deref()),
        (Placeholder::Server, server),
        (Placeholder::Queue, query.queue.as_deref()),
        (Placeholder::Agent, query.agent.as_deref()),
    ] {
        if !pattern.mentions(place) || (value.is_none() && place != Placeholder::Tenant) {
            continue;
        }
        let names = directory_names(place, value.unwrap_or_default());
        ways = ways
            .iter()
            .flat_map(|way| {
                names.iter().map(|name| {
                    let mut way = way.clone();
                    way.insert(place as u8, name.clone());
                    way
                })
            })
            .collect();
    }
    let mut seen = BTreeSet::new();
    let steps = ways.iter().map(|way| pattern.components().iter().map(|parts| step(parts, way)).collect());
    steps.filter(|steps: &Vec<Step>| seen.insert(steps.clone())).collect()
}

/// The way that covers every directory to which a query may lead.
pub fn anywhere(pattern: &Pattern) -> Vec<Step> {
    pattern.components().iter().map(|parts| step(parts, &Values::new())).collect()
}

/// Whether a file is in a directory at the end of a way, or below one.
pub fn leads_to(way: &[Step], file: &Path) -> bool {
    let mut directories = file.parent().unwrap_or(Path::new("")).components();
    way.iter().all(|step| match directories.next() {
        Some(Component::Normal(name)) => step.admits(name.as_bytes()),
        _ => false,
    })
}

/// The known values for one way, by placeholder.
type Values = BTreeMap<u8, String>;

fn step(parts: &[Part], values: &Values) -> Step {
    let pieces: Vec<Piece> = parts
        .iter()
        .map(|part| match part {
            Part::Literal(text) => Piece::Text(text.clone()),
            Part::Place(place) => values.get(&(*place as u8)).map_or_else(
                || match place {
                    Placeholder::Year => Piece::Digits(4),
                    Placeholder::Month | Placeholder::Day | Placeholder::Hour => Piece::Digits(2),
                    Placeholder::MonthName => Piece::MonthName,
                    Placeholder::Tenant | Placeholder::Server | Placeholder::Queue | Placeholder::Agent => {
                        Piece::Anything
                    }
                },
                |value| Piece::Text(value.clone()),
            ),
        })
        .collect();
    let texts: Option<Vec<&str>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Digits(_) | Piece::MonthName | Piece::Anything => None,
        })
        .collect();
    match texts {
        Some(texts) => Step::Exact(texts.concat()),
        None => Step::Like(pieces),
    }
}

/// The directory names that a value of the request may have on disk. QueueMetrics names agents by their channel,
/// `Agent/101`; PBXs name directories by the part after the slash.
fn directory_names(place: Placeholder, value: &str) -> Vec<String> {
    let behind =
        (place == Placeholder::Agent).then(|| value.rsplit_once('/')).flatten().map(|(_, name)| name);
    let names = [Some(value), behind].into_iter().flatten();
    names.filter(|name| is_directory_name(name)).map(str::to_owned).collect()
}

/// Whether a value from outside is exactly one directory name, so that it cannot lead to another place.
fn is_directory_name(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= MAX_NAME_LEN
        && !value.starts_with('.')
        && !value.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}

fn dates(
    began: Timestamp,
    look_back: SignedDuration,
    zone: &TimeZone,
    granularity: Granularity,
) -> Vec<Values> {
    let first = began.checked_sub(look_back).unwrap_or(Timestamp::MIN);
    let last = began.checked_add(look_back).unwrap_or(Timestamp::MAX);
    let step = if granularity == Granularity::Hour { HOUR_STEP } else { DAY_STEP };
    let mut found: Vec<Values> = Vec::new();
    let mut at = first;
    loop {
        let values = local_date(&at.to_zoned(zone.clone()), granularity);
        if !found.contains(&values) {
            found.push(values);
        }
        if at >= last {
            return found;
        }
        at = at.checked_add(step).unwrap_or(last).min(last);
    }
}

fn local_date(local: &Zoned, granularity: Granularity) -> Values {
    let month = usize::try_from(local.month()).unwrap_or(1);
    let mut values = Values::from([(Placeholder::Year as u8, format!("{:04}", local.year()))]);
    if granularity >= Granularity::Month {
        values.insert(Placeholder::Month as u8, format!("{month:02}"));
        let name = MONTHS.get(month.saturating_sub(1)).copied().unwrap_or_default();
        values.insert(Placeholder::MonthName as u8, name.to_owned());
    }
    if granularity >= Granularity::Day {
        values.insert(Placeholder::Day as u8, format!("{:02}", local.day()));
    }
    if granularity >= Granularity::Hour {
        values.insert(Placeholder::Hour as u8, format!("{:02}", local.hour()));
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call_id::CallIdRules;

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
        assert!(
            paths("file:/m/%TE/x", &asked, "UTC").is_empty(),
            "a search without a tenant gets no directory"
        );
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
        for evil in [
            "", "..", ".", ".ssh", "a/b", "/etc", "../x", "a\0b", "a\nb", "a\\b", &long, "Agent/", "Agent/..",
        ] {
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
                let file = Path::new("/rec").join(directory).join("below/in-1711444502.17.wav");
                let file = file.strip_prefix(pattern.root()).unwrap();
                ways.iter().any(|way| leads_to(way, file))
            };
            prop_assert!(admitted(tenant, server, queue, agent), "the tenant's own");
            prop_assert!(tenant == other || !admitted(other, its_server, its_queue, its_agent), "another's");
        }
    }
}
