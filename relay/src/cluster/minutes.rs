//! What one run of a relay has counted for a site, minute by minute.

use std::collections::BTreeMap;

use crate::store::Traffic;

/// Minutes that series and figures go back.
pub const SERIES_MINUTES: usize = 60;

/// The totals of the latest [`SERIES_MINUTES`] minutes in which anything passed, by minutes since the Unix epoch.
///
/// Totals of one run only grow, so what was told of them can be taken in again, late and in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Minutes(BTreeMap<i64, Traffic>);

impl Minutes {
    /// Adds what has passed in a minute.
    pub fn add(&mut self, minute: i64, more: Traffic) {
        if more != Traffic::default() {
            let total = self.0.entry(minute).or_default();
            *total = total.plus(&more);
            self.bound();
        }
    }

    /// Takes in the total of a minute as it was told, which may be older than what is known. Returns what it adds.
    pub fn raise(&mut self, minute: i64, told: Traffic) -> Traffic {
        let total = self.0.entry(minute).or_default();
        let more = told.minus(total);
        *total = total.plus(&more);
        self.bound();
        more
    }

    /// Forgets the minutes up to one, inclusive.
    pub fn forget(&mut self, until: i64) {
        while self.0.first_key_value().is_some_and(|(minute, _)| *minute <= until) {
            self.0.pop_first();
        }
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (i64, Traffic)> {
        self.0.iter().map(|(minute, total)| (*minute, *total))
    }

    /// All of them together.
    pub fn sum(&self) -> Traffic {
        self.0.values().fold(Traffic::default(), |sum, total| sum.plus(total))
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps no more than an hour, whatever minutes another relay names.
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
