//! How many recordings were found, by day and by queue.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::search::{Fate, Tried};

/// Calls of each fate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Calls in all.
    pub calls: u64,
    /// Calls by what became of their recordings.
    #[serde(flatten)]
    pub fates: BTreeMap<Fate, u64>,
}

impl Tally {
    fn add(&mut self, fate: Fate) {
        self.calls += 1;
        *self.fates.entry(fate).or_default() += 1;
    }

    /// Calls of a fate.
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or_default()
    }

    /// Recordings that were found, in percent of the calls.
    pub fn percent(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.of(Fate::Found) as f64 * 100.0 / self.calls as f64 }
    }
}

/// Calls, counted.
#[derive(Debug, Default, Serialize)]
pub struct Coverage {
    /// All of them.
    #[serde(flatten)]
    pub all: Tally,
    /// By the day on which they were answered, in the site's zone.
    pub days: BTreeMap<String, Tally>,
    /// By queue.
    pub queues: BTreeMap<String, Tally>,
}

impl Coverage {
    /// Counts calls.
    pub fn count(tried: &[Tried], zone: &TimeZone) -> Self {
        let mut coverage = Self::default();
        for one in tried {
            let day = one.call.at.to_zoned(zone.clone()).date().to_string();
            coverage.all.add(one.fate);
            coverage.days.entry(day).or_default().add(one.fate);
            coverage.queues.entry(one.call.queue.clone()).or_default().add(one.fate);
        }
        coverage
    }
}
