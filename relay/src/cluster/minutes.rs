//! What one run of a relay has counted for a site, by minute.

use std::collections::BTreeMap;

use crate::store::Traffic;

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
    pub fn raise(&mut self, minute: i64, told: Traffic) -> Traffic {
        let total = self.0.entry(minute).or_default();
        let more = told.minus(total);
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

    fn searches(searches: u64) -> Traffic {
        Traffic { searches, ..Traffic::default() }
    }

    #[test]
    fn a_total_that_is_told_again_or_late_adds_nothing() {
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
