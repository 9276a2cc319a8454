//! What one relay knows of a site by its own tunnels, and what several know together.

use std::collections::HashMap;

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AgentView, RecordingsView};
use crate::{limits::SiteThrottle, store::Traffic};

/// A site as one relay sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SitePart {
    /// Agents that are connected to it.
    pub agents: Vec<AgentView>,
    /// Since when one of them has been.
    pub since: Option<Timestamp>,
    /// How their recordings are; nothing while none has told.
    pub recordings: Option<RecordingsView>,
    /// The shortest of their latest round trips, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Requests being answered now.
    pub open_streams: usize,
    /// What clients of this relay had of the site since it was started.
    pub totals: Traffic,
    /// What was refused there in the last hour.
    pub refused: SiteThrottle,
}

impl SitePart {
    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another relay sees, but for its totals, which count from another start.
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

    /// Takes figures that change all the time from how they were a moment ago.
    pub(super) fn keep_figures(&mut self, before: &Self) {
        (self.rtt_ms, self.open_streams) = (before.rtt_ms, before.open_streams);
        (self.totals, self.refused) = (before.totals, before.refused);
    }
}

/// What a relay tells the others of its sites: those that have changed since they last asked.
#[derive(Debug, Default)]
pub struct PartBook {
    number: u64,
    /// Each with the number of the change that made it so.
    parts: HashMap<SiteId, (u64, SitePart)>,
}

/// What has changed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PartsChange {
    /// Where to go on from.
    pub number: u64,
    /// Sites as they are now.
    pub parts: Vec<(SiteId, SitePart)>,
}

impl PartBook {
    /// Writes down how a site is; `figures` says that figures may change too.
    pub fn write(&mut self, site: &SiteId, mut part: SitePart, figures: bool) {
        match self.parts.get(site) {
            Some((_, before)) => {
                if !figures {
                    part.keep_figures(before);
                }
                if *before == part {
                    return;
                }
            }
            None if part.is_empty() => return,
            None => {}
        }
        self.number += 1;
        self.parts.insert(site.clone(), (self.number, part));
    }

    /// What has changed since a number; everything for who has another run's.
    pub fn since(&self, number: u64) -> PartsChange {
        let since = if number > self.number { 0 } else { number };
        let changed = self.parts.iter().filter(|(_, (changed, _))| *changed > since);
        PartsChange {
            number: self.number,
            parts: changed.map(|(site, (_, part))| (site.clone(), part.clone())).collect(),
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
    fn others_are_told_of_what_has_changed_and_of_figures_now_and_then() {
        let mut book = PartBook::default();
        let mut part = SitePart { agents: vec![agent("pbx")], ..SitePart::default() };
        book.write(&site("acme"), part.clone(), false);
        book.write(&site("never"), SitePart::default(), true);
        let first = book.since(0);
        assert_eq!((first.number, first.parts.len()), (1, 1), "of whom nothing is known nothing is told");
        part.open_streams = 3;
        book.write(&site("acme"), part.clone(), false);
        assert!(book.since(first.number).parts.is_empty());
        book.write(&site("acme"), part.clone(), true);
        assert_eq!(book.since(first.number).parts, [(site("acme"), part.clone())]);
        part.agents.clear();
        book.write(&site("acme"), part, false);
        let last = book.since(2);
        assert!(last.parts[0].1.agents.is_empty() && last.parts[0].1.open_streams == 3);
        assert_eq!(book.since(77).parts.len(), 1, "whoever has another run's number is told all");
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
}
