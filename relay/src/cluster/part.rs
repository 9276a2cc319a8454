//! What one relay knows about a site from its own tunnels, what one run of it has counted for a site by minute, and
//! how the views of several relays are merged.

use std::collections::{BTreeMap, HashMap};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    limits::SiteThrottle,
    store::Traffic,
    tunnel::view::{AgentView, RecordingsView},
};

/// A site as one relay sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SitePart {
    /// Agents that are connected to this relay.
    pub agents: Vec<AgentView>,
    /// Since when at least one of them has been connected.
    pub since: Option<Timestamp>,
    /// The health of their recordings; `None` until an agent has reported it.
    pub recordings: Option<RecordingsView>,
    /// The shortest of their latest round-trip times, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Number of requests that are being answered now.
    pub open_streams: usize,
    /// The site's traffic through this relay since the relay started. Relays of earlier releases read it; this one
    /// reads `minutes`.
    pub totals: Traffic,
    /// The same by minutes since the Unix epoch. In a report to a peer relay, only the minutes that have changed.
    #[serde(default)]
    pub minutes: Vec<(i64, Traffic)>,
    /// What was refused there in the last hour.
    pub refused: SiteThrottle,
}

impl SitePart {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another relay sees, except for its traffic.
    pub fn join(&mut self, other: &Self) {
        self.agents.extend(other.agents.iter().cloned());
        self.since = [self.since, other.since].into_iter().flatten().min();
        self.recordings = match (self.recordings.take(), &other.recordings) {
            (Some(here), Some(there)) => Some(here.and(there)),
            (here, there) => here.or_else(|| there.clone()),
        };
        self.rtt_ms = match (self.rtt_ms, other.rtt_ms) {
            (Some(here), Some(there)) => Some(here.min(there)),
            (here, there) => here.or(there),
        };
        self.open_streams += other.open_streams;
        self.refused = self.refused.and(&other.refused);
    }

    /// Takes the figures that change all the time from an earlier view.
    pub(crate) fn keep_figures(&mut self, before: &Self) {
        (self.rtt_ms, self.open_streams) = (before.rtt_ms, before.open_streams);
        (self.totals, self.refused) = (before.totals, before.refused);
    }
}

/// What a relay reports to its peers about its sites: those that have changed since a peer last asked.
#[derive(Debug, Default)]
pub struct PartBook {
    number: u64,
    parts: HashMap<SiteId, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The number of the change that made this entry.
    changed: u64,
    /// The site without its minutes.
    part: SitePart,
    /// The total of each minute, with the number of the change that made it.
    minutes: BTreeMap<i64, (u64, Traffic)>,
}

/// What has changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PartsChange {
    /// The number of the latest change: the next request asks for changes after it.
    pub number: u64,
    /// The changed sites as they are now.
    pub parts: Vec<(SiteId, SitePart)>,
}

impl PartBook {
    /// Stores the current view of a site. If `figures` is false, the figures keep their earlier values.
    pub fn write(&mut self, site: &SiteId, mut part: SitePart, figures: bool) {
        let minutes = std::mem::take(&mut part.minutes);
        let number = self.number + 1;
        let entry = match self.parts.get_mut(site) {
            Some(entry) => entry,
            None if part.is_empty() && minutes.is_empty() => return,
            None => self
                .parts
                .entry(site.clone())
                .or_insert_with(|| Entry { changed: number, ..Entry::default() }),
        };
        if figures {
            if entry.take_minutes(&minutes, number) {
                entry.changed = number;
            }
        } else {
            part.keep_figures(&entry.part);
        }
        if entry.part != part {
            entry.part = part;
            entry.changed = number;
        }
        if entry.changed == number {
            self.number = number;
        }
    }

    /// What has changed since a number. Everything, if the number comes from another run.
    pub fn since(&self, number: u64) -> PartsChange {
        let since = if number > self.number { 0 } else { number };
        let changed = self.parts.iter().filter(|(_, entry)| entry.changed > since);
        PartsChange {
            number: self.number,
            parts: changed.map(|(site, entry)| (site.clone(), entry.changed_since(since))).collect(),
        }
    }
}

impl Entry {
    /// Stores the minutes as of change `number`. Returns whether any total has changed.
    fn take_minutes(&mut self, minutes: &[(i64, Traffic)], number: u64) -> bool {
        let oldest = minutes.first().map(|(minute, _)| *minute);
        self.minutes.retain(|minute, _| oldest.is_some_and(|oldest| *minute >= oldest));
        let mut is_other = false;
        for (minute, total) in minutes {
            let known = self.minutes.entry(*minute).or_default();
            if known.1 != *total {
                *known = (number, *total);
                is_other = true;
            }
        }
        is_other
    }

    /// The site with the minutes that have changed since a number.
    fn changed_since(&self, since: u64) -> SitePart {
        let changed = self.minutes.iter().filter(|(_, (changed, _))| *changed > since);
        let minutes = changed.map(|(minute, (_, total))| (*minute, *total)).collect();
        SitePart { minutes, ..self.part.clone() }
    }
}

/// How many minutes the series and figures go back.
pub const SERIES_MINUTES: usize = 60;

/// The totals of the latest [`SERIES_MINUTES`] minutes in which there was any traffic, by minutes since the Unix
/// epoch.
///
/// Totals of one run only grow, so a report can be applied again, late, and in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Minutes(BTreeMap<i64, Traffic>);

impl Minutes {
    /// Adds traffic to a minute.
    pub fn add(&mut self, minute: i64, more: Traffic) {
        if more != Traffic::default() {
            let total = self.0.entry(minute).or_default();
            *total = total.plus(&more);
            self.bound();
        }
    }

    /// Applies a reported total of a minute, which may be older than the known one. Returns what it adds.
    pub fn raise(&mut self, minute: i64, reported: Traffic) -> Traffic {
        let total = self.0.entry(minute).or_default();
        let more = reported.minus(total);
        *total = total.plus(&more);
        self.bound();
        more
    }

    /// Forgets the minutes up to `until`, inclusive.
    pub fn forget(&mut self, until: i64) {
        while self.0.first_key_value().is_some_and(|(minute, _)| *minute <= until) {
            self.0.pop_first();
        }
    }

    /// All minutes, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, Traffic)> {
        self.0.iter().map(|(minute, total)| (*minute, *total))
    }

    /// The sum of all minutes.
    pub fn sum(&self) -> Traffic {
        self.0.values().fold(Traffic::default(), |sum, total| sum.plus(total))
    }

    /// Whether there is no traffic.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps at most an hour, no matter which minutes a peer relay reports.
    fn bound(&mut self) {
        while self.0.len() > SERIES_MINUTES {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> SiteId {
        SiteId::parse(name).unwrap()
    }

    fn agent(host: &str) -> AgentView {
        AgentView { host: host.to_owned(), version: "1.0.0".to_owned(), outdated: false }
    }

    #[test]
    fn others_get_changes_at_once_and_figures_now_and_then() {
        let mut book = PartBook::default();
        let mut part = SitePart { agents: vec![agent("pbx")], ..SitePart::default() };
        book.write(&site("acme"), part.clone(), false);
        book.write(&site("never"), SitePart::default(), true);
        let first = book.since(0);
        assert_eq!((first.number, first.parts.len()), (1, 1), "a site without figures is not reported");
        part.open_streams = 3;
        book.write(&site("acme"), part.clone(), false);
        assert!(book.since(first.number).parts.is_empty());
        book.write(&site("acme"), part.clone(), true);
        assert_eq!(book.since(first.number).parts, [(site("acme"), part.clone())]);
        part.agents.clear();
        book.write(&site("acme"), part, false);
        let last = book.since(2);
        assert!(last.parts[0].1.agents.is_empty() && last.parts[0].1.open_streams == 3);
        assert_eq!(book.since(77).parts.len(), 1, "a peer with another run's number gets everything");
    }

    #[test]
    fn changed_minutes_are_reported_and_all_of_them_to_a_new_peer() {
        let mut book = PartBook::default();
        let counted = |minutes: &[(i64, u64)]| {
            let total = |(minute, searches): &(i64, u64)| {
                (*minute, Traffic { searches: *searches, ..Traffic::default() })
            };
            SitePart { minutes: minutes.iter().map(total).collect(), ..SitePart::default() }
        };
        let reported = |book: &PartBook, since| {
            book.since(since).parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>()
        };
        book.write(&site("acme"), counted(&[(1, 5)]), true);
        let first = book.since(0).number;
        book.write(&site("acme"), counted(&[(1, 5)]), true);
        assert!(reported(&book, first).is_empty());
        book.write(&site("acme"), counted(&[(1, 6), (2, 1)]), false);
        assert!(reported(&book, first).is_empty(), "figures change now and then");
        book.write(&site("acme"), counted(&[(1, 5), (2, 1)]), true);
        assert_eq!(reported(&book, first), [counted(&[(2, 1)])]);
        assert_eq!(reported(&book, 0), [counted(&[(1, 5), (2, 1)])]);
        book.write(&site("acme"), counted(&[(2, 1)]), true);
        assert_eq!(reported(&book, 0), [counted(&[(2, 1)])], "an hour later");
    }

    #[test]
    fn several_relays_see_one_site() {
        let early: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let late: Timestamp = "2026-11-28T13:00:00Z".parse().unwrap();
        let view = |readable: bool, count| {
            let problem = (!readable).then(|| "no such directory".to_owned());
            Some(RecordingsView { readable, problem, count: Some(count), newest: Some(early) })
        };
        let mut here = SitePart {
            agents: vec![agent("a")],
            since: Some(late),
            recordings: view(true, 7),
            rtt_ms: None,
            open_streams: 1,
            refused: SiteThrottle { wrong_tokens: 2, ..SiteThrottle::default() },
            ..SitePart::default()
        };
        here.join(&SitePart {
            agents: vec![agent("b")],
            since: Some(early),
            recordings: view(false, 5),
            rtt_ms: Some(3.0),
            open_streams: 2,
            refused: SiteThrottle { wrong_tokens: 1, since: Some(late), ..SiteThrottle::default() },
            ..SitePart::default()
        });
        assert_eq!((here.agents.len(), here.since, here.rtt_ms), (2, Some(early), Some(3.0)));
        let recordings = here.recordings.unwrap();
        assert!(!recordings.readable && recordings.problem.is_some() && recordings.count == Some(7));
        assert_eq!((here.open_streams, here.refused.wrong_tokens, here.refused.since), (3, 3, Some(late)));
    }

    fn searches(searches: u64) -> Traffic {
        Traffic { searches, ..Traffic::default() }
    }

    #[test]
    fn a_total_that_is_reported_again_or_late_adds_nothing() {
        let mut minutes = Minutes::default();
        assert_eq!(minutes.raise(7, searches(3)), searches(3));
        assert_eq!(minutes.raise(7, searches(3)), Traffic::default());
        assert_eq!(minutes.raise(7, searches(5)), searches(2));
        assert_eq!(minutes.raise(7, searches(4)), Traffic::default(), "it is late");
        assert_eq!(minutes.sum(), searches(5));
    }

    #[test]
    fn no_more_than_an_hour_is_kept() {
        let mut minutes = Minutes::default();
        for minute in 0..1000 {
            minutes.raise(minute, searches(1));
        }
        assert_eq!(minutes.iter().count(), SERIES_MINUTES);
        minutes.forget(998);
        assert_eq!(minutes.sum(), searches(1));
    }
}
