//! What passed for a site in the last hour, minute by minute. Pure: time is an argument.

use std::collections::VecDeque;

use serde::Serialize;

use crate::store::Traffic;

/// Minutes that are kept.
pub const SERIES_MINUTES: usize = 60;

/// One minute of a site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Point {
    /// Minutes since the Unix epoch.
    pub minute: i64,
    /// Searches asked.
    pub searches: u64,
    /// Requests that ended in a server error.
    pub errors: u64,
    /// Octets of recordings handed over.
    pub bytes: u64,
    /// The last round trip of the minute in milliseconds.
    pub rtt_ms: Option<f64>,
}

/// The last hour of one site. Minutes in which nothing was seen at all are missing.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity {
    points: VecDeque<Point>,
    counted: Traffic,
}

impl Activity {
    /// Begins with what an earlier run has counted.
    pub(super) fn seeded(minutes: impl IntoIterator<Item = (i64, Traffic)>) -> Self {
        let points = minutes.into_iter().map(|(minute, traffic)| {
            let Traffic { searches, errors, bytes } = traffic;
            Point { minute, searches, errors, bytes, rtt_ms: None }
        });
        Self { points: points.collect(), counted: Traffic::default() }
    }

    /// Takes the totals of this run and the round trip at a moment. Returns whether a minute has begun.
    pub(super) fn sample(&mut self, minute: i64, totals: Traffic, rtt_ms: Option<f64>) -> bool {
        let begun = self.points.back().is_none_or(|point| point.minute < minute);
        if begun {
            self.points.push_back(Point { minute, ..Point::default() });
        }
        if let Some(point) = self.points.back_mut() {
            point.searches += totals.searches.saturating_sub(self.counted.searches);
            point.errors += totals.errors.saturating_sub(self.counted.errors);
            point.bytes += totals.bytes.saturating_sub(self.counted.bytes);
            point.rtt_ms = rtt_ms.or(point.rtt_ms);
        }
        self.counted = totals;
        let oldest = minute - SERIES_MINUTES as i64;
        while self.points.front().is_some_and(|point| point.minute <= oldest) {
            self.points.pop_front();
        }
        begun
    }

    /// What passed in the minutes that are kept.
    pub(super) fn last_hour(&self) -> Traffic {
        self.points.iter().fold(Traffic::default(), |sum, point| Traffic {
            searches: sum.searches + point.searches,
            errors: sum.errors + point.errors,
            bytes: sum.bytes + point.bytes,
        })
    }

    pub(super) fn points(&self) -> Vec<Point> {
        self.points.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searches(searches: u64) -> Traffic {
        Traffic { searches, ..Traffic::default() }
    }

    #[test]
    fn an_hour_is_sixty_minutes_and_no_more() {
        let mut activity = Activity::default();
        for minute in 0..90 {
            activity.sample(1000 + minute, searches(2 * (minute as u64 + 1)), Some(1.0));
        }
        assert_eq!(activity.last_hour().searches, 120);
        assert_eq!(activity.points().len(), SERIES_MINUTES);
    }

    #[test]
    fn what_an_earlier_run_counted_grows_old_too() {
        let mut activity = Activity::seeded([(1000, searches(7))]);
        assert!(activity.sample(1001, searches(1), None));
        assert!(!activity.sample(1001, searches(2), None));
        assert_eq!(activity.last_hour().searches, 9);
        activity.sample(1060, searches(2), None);
        assert_eq!(activity.last_hour().searches, 2);
    }
}
