//! Expands a pattern and a query to the directories that may contain the recording. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

use crate::storage::{
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
pub(crate) fn anywhere(pattern: &Pattern) -> Vec<Step> {
    pattern.components().iter().map(|parts| step(parts, &Values::new())).collect()
}

/// Whether a file is in a directory at the end of a way, or below one.
pub(crate) fn leads_to(way: &[Step], file: &Path) -> bool {
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
#[path = "expand_tests.rs"]
mod tests;
