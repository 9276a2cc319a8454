//! Counts how many recordings were found, by day and by queue.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Serialize;

use super::search::{Fate, SearchResult};

/// The number of calls for each result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All calls.
    pub calls: u64,
    /// Calls by the result of their search.
    #[serde(flatten)]
    pub fates: BTreeMap<Fate, u64>,
}

impl Tally {
    fn add(&mut self, fate: Fate) {
        self.calls += 1;
        *self.fates.entry(fate).or_default() += 1;
    }

    /// The number of calls with one result.
    pub fn of(&self, fate: Fate) -> u64 {
        self.fates.get(&fate).copied().unwrap_or_default()
    }

    /// Calls whose recording was found, in percent of all calls.
    pub fn percent(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.of(Fate::Found) as f64 * 100.0 / self.calls as f64 }
    }
}

/// The counts of all calls.
#[derive(Debug, Default, Serialize)]
pub struct Coverage {
    /// The counts of all days and queues together.
    #[serde(flatten)]
    pub all: Tally,
    /// By the day on which they were answered, in the site's time zone.
    pub days: BTreeMap<String, Tally>,
    /// By queue.
    pub queues: BTreeMap<String, Tally>,
}

impl Coverage {
    /// Counts these calls.
    pub fn count(tried: &[SearchResult], zone: &TimeZone) -> Self {
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
