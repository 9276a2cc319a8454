//! The traffic of a site in the last hour, by minute, as each run of a relay has counted it. Pure: time is an
//! argument.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    cluster::part::{Minutes, SERIES_MINUTES},
    store::Traffic,
};

/// One minute of a site.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Point {
    /// Minutes since the Unix epoch.
    pub minute: i64,
    /// Number of searches.
    pub searches: u64,
    /// Requests that ended in a server error.
    pub errors: u64,
    /// Bytes of recordings that were delivered.
    pub bytes: u64,
    /// The last round-trip time of the minute in milliseconds.
    pub rtt_ms: Option<f64>,
}

/// What another run has counted: an earlier run of this relay, or a run of a peer relay.
#[derive(Debug, Clone)]
struct OtherRun {
    run: Arc<str>,
    minutes: Minutes,
    /// Whether the run itself has reported this. Until then, these are the figures in the database, which counts
    /// differently.
    has_reported: bool,
    /// Bytes that it has counted since its first report.
    bytes: u64,
}

/// The last hour of one site, at all relays.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity {
    /// Totals of this run when they were last sampled.
    counted: Traffic,
    own: Minutes,
    others: Vec<OtherRun>,
    /// The minutes in which this relay sampled the site, each with its last round-trip time in milliseconds.
    round_trips: VecDeque<(i64, Option<f64>)>,
}

impl Activity {
    /// Starts with what the database knows of another run.
    pub(super) fn seed(&mut self, run: &str, minute: i64, traffic: Traffic) {
        self.other(&run.into()).minutes.raise(minute, traffic);
    }

    /// Counts the new totals of this run.
    pub(super) fn count(&mut self, minute: i64, totals: Traffic) {
        self.own.add(minute, totals.minus(&self.counted));
        self.counted = totals;
    }

    /// Applies the report of another run.
    pub(super) fn apply(&mut self, run: &Arc<str>, reported: &Minutes) {
        if reported.is_empty() {
            return;
        }
        let other = self.other(run);
        let is_first = !std::mem::replace(&mut other.has_reported, true);
        if is_first {
            other.minutes = Minutes::default();
        }
        let mut bytes = 0;
        for (minute, total) in reported.iter() {
            bytes += other.minutes.raise(minute, total).bytes;
        }
        if !is_first {
            other.bytes += bytes;
        }
    }

    /// Notes a round-trip time, and forgets what is older than an hour. Returns whether a new minute has begun.
    pub(super) fn sample(&mut self, minute: i64, rtt_ms: Option<f64>) -> bool {
        let begun = self.round_trips.back().is_none_or(|(latest, _)| *latest < minute);
        if begun {
            self.round_trips.push_back((minute, rtt_ms));
            self.forget(minute - SERIES_MINUTES as i64);
        } else if let Some((_, latest)) = self.round_trips.back_mut() {
            *latest = rtt_ms.or(*latest);
        }
        begun
    }

    fn forget(&mut self, until: i64) {
        while self.round_trips.front().is_some_and(|(minute, _)| *minute <= until) {
            self.round_trips.pop_front();
        }
        self.own.forget(until);
        self.others.retain_mut(|other| {
            other.minutes.forget(until);
            !other.minutes.is_empty()
        });
    }

    fn other(&mut self, run: &Arc<str>) -> &mut OtherRun {
        let known = self.others.iter().position(|other| other.run == *run);
        let at = known.unwrap_or_else(|| {
            let minutes = Minutes::default();
            self.others.push(OtherRun { run: Arc::clone(run), minutes, has_reported: false, bytes: 0 });
            self.others.len() - 1
        });
        &mut self.others[at]
    }

    /// What this run has counted, for the peer relays.
    pub(super) fn own(&self) -> &Minutes {
        &self.own
    }

    /// Bytes that passed since this relay started. The value falls when a run is forgotten that has reported nothing
    /// for an hour.
    pub(super) fn bytes(&self) -> u64 {
        self.counted.bytes + self.others.iter().map(|other| other.bytes).sum::<u64>()
    }

    /// The traffic in the minutes that are kept.
    pub(super) fn last_hour(&self) -> Traffic {
        self.others.iter().fold(self.own.sum(), |sum, other| sum.plus(&other.minutes.sum()))
    }

    pub(super) fn points(&self) -> Vec<Point> {
        let mut points: BTreeMap<i64, Point> = BTreeMap::new();
        for (minute, rtt_ms) in &self.round_trips {
            points.insert(*minute, Point { minute: *minute, rtt_ms: *rtt_ms, ..Point::default() });
        }
        let others = self.others.iter().flat_map(|other| other.minutes.iter());
        for (minute, traffic) in self.own.iter().chain(others) {
            let point = points.entry(minute).or_insert(Point { minute, ..Point::default() });
            point.searches += traffic.searches;
            point.errors += traffic.errors;
            point.bytes += traffic.bytes;
        }
        points.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searches(searches: u64) -> Traffic {
        Traffic { searches, ..Traffic::default() }
    }

    fn reported(minutes: &[(i64, u64)]) -> Minutes {
        let mut reported = Minutes::default();
        for (minute, count) in minutes {
            reported.raise(*minute, searches(*count));
        }
        reported
    }

    #[test]
    fn an_hour_is_sixty_minutes_and_no_more() {
        let mut activity = Activity::default();
        for minute in 0..90 {
            activity.count(1000 + minute, searches(2 * (minute as u64 + 1)));
            activity.sample(1000 + minute, Some(1.0));
        }
        assert_eq!(activity.last_hour().searches, 120);
        assert_eq!(activity.points().len(), SERIES_MINUTES);
    }

    #[test]
    fn what_an_earlier_run_counted_grows_old_too() {
        let mut activity = Activity::default();
        activity.seed("before", 1000, searches(7));
        activity.count(1001, searches(1));
        assert!(activity.sample(1001, None));
        activity.count(1001, searches(2));
        assert!(!activity.sample(1001, None));
        assert_eq!(activity.last_hour().searches, 9);
        activity.count(1060, searches(2));
        activity.sample(1060, None);
        assert_eq!(activity.last_hour().searches, 2);
    }

    #[test]
    fn figures_that_a_run_reports_replace_those_of_the_database() {
        let mut activity = Activity::default();
        for run in ["ended", "lives"] {
            activity.seed(run, 1000, searches(7));
        }
        activity.apply(&"lives".into(), &Minutes::default());
        assert_eq!(activity.last_hour().searches, 14, "it has reported nothing yet");
        activity.apply(&"lives".into(), &reported(&[(999, 5), (1000, 4)]));
        activity.apply(&"lives".into(), &reported(&[(1000, 3)]));
        assert_eq!(activity.last_hour().searches, 16);
        assert_eq!(activity.points().iter().map(|point| point.searches).collect::<Vec<_>>(), [5, 11]);
    }

    #[test]
    fn bytes_that_another_relay_counted_before_its_first_report_are_no_burst() {
        let mut activity = Activity::default();
        let mut minutes = Minutes::default();
        minutes.add(1000, Traffic { bytes: 500, ..Traffic::default() });
        activity.apply(&"other".into(), &minutes);
        assert_eq!((activity.bytes(), activity.last_hour().bytes), (0, 500));
        minutes.add(1000, Traffic { bytes: 20, ..Traffic::default() });
        activity.apply(&"other".into(), &minutes);
        assert_eq!((activity.bytes(), activity.last_hour().bytes), (20, 520));
    }
}
