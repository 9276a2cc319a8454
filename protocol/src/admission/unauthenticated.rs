//! Keeps unauthenticated clients from filling the audit log.
//!
//! A client that has shown neither a right token nor a link that opens gets a few lines a minute; its other requests
//! are only counted. Relay and agent do the same. The agent also uses this to keep the repeated requests of one client
//! from filling its audit log. Pure: the caller passes `now`, and the time of day in its own form.

use std::time::{Duration, Instant};

/// The period over which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines for unauthenticated clients in a window. With the line that has the count, this is at most 10 MB a day, so
/// that even weeks of such requests do not push the real events out of the files that are kept.
const LINES: u32 = 10;

/// Counts the requests of unauthenticated clients.
#[derive(Debug)]
pub struct UnauthenticatedLimit<T> {
    /// Most lines of single requests in a window.
    most: u32,
    window: Option<Window<T>>,
}

#[derive(Debug)]
struct Window<T> {
    began: Instant,
    since: T,
    lines: u32,
    counted: u64,
}

/// The requests of a window that were counted and have no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppressed<T> {
    /// Since when they were counted.
    pub since: T,
    /// Number of requests.
    pub count: u64,
}

impl<T> Default for UnauthenticatedLimit<T> {
    fn default() -> Self {
        Self::with_lines(LINES)
    }
}

impl<T> UnauthenticatedLimit<T> {
    /// Allows `most` lines a minute.
    pub const fn with_lines(most: u32) -> Self {
        Self { most, window: None }
    }

    /// Returns true if an unauthenticated request at `now` gets its own line. Otherwise it is counted.
    pub fn admit(&mut self, now: Instant, time_of_day: T) -> bool {
        let most = self.most;
        let window = self.window(now, time_of_day);
        let admitted = window.lines < most && window.counted == 0;
        if admitted {
            window.lines += 1;
        } else {
            window.counted += 1;
        }
        admitted
    }

    /// Returns true if a request that begins at `now` gets its own lines. If not, [`UnauthenticatedLimit::count`] counts it when
    /// it ends.
    pub fn begin(&mut self, now: Instant, time_of_day: T) -> bool {
        let most = self.most;
        let window = self.window(now, time_of_day);
        let admitted = window.lines < most && window.counted == 0;
        if admitted {
            window.lines += 1;
        }
        admitted
    }

    /// Counts a request that has no line.
    pub fn count(&mut self, now: Instant, time_of_day: T) {
        self.window(now, time_of_day).counted += 1;
    }

    /// True if `now` is after the window, and no count is left to report.
    pub fn is_over(&self, now: Instant) -> bool {
        self.window.as_ref().is_none_or(|window| now >= window.began + WINDOW && window.counted == 0)
    }

    /// The window of `now`. A window with a count goes on until [`UnauthenticatedLimit::close`] has reported the count.
    fn window(&mut self, now: Instant, time_of_day: T) -> &mut Window<T> {
        if self.is_over(now) {
            self.window = None;
        }
        self.window.get_or_insert(Window { began: now, since: time_of_day, lines: 0, counted: 0 })
    }

    /// When the count is to be reported; `None` while there is no count.
    pub fn due(&self) -> Option<Instant> {
        self.window.as_ref().filter(|window| window.counted > 0).map(|window| window.began + WINDOW)
    }

    /// Ends a window that is over at `now`, or any window if it is the `last`. Returns what was counted in it.
    pub fn close(&mut self, now: Instant, last: bool) -> Option<Suppressed<T>> {
        if !last && self.due().is_none_or(|due| now < due) {
            return None;
        }
        let window = self.window.take().filter(|window| window.counted > 0)?;
        Some(Suppressed { since: window.since, count: window.counted })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test begins somewhere in time")]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let began = Instant::now();
        let mut unauthenticated = UnauthenticatedLimit::default();
        let lines =
            (0..1000).filter(|n| unauthenticated.admit(began + Duration::from_millis(*n), ())).count();
        assert_eq!(lines, 10);
        assert_eq!(unauthenticated.due(), Some(began + WINDOW));
        assert_eq!(unauthenticated.close(began + WINDOW / 2, false), None);
        // The count is reported late; requests that come in the meantime are counted too.
        assert!(!unauthenticated.admit(began + 2 * WINDOW, ()));
        assert_eq!(unauthenticated.close(began + 2 * WINDOW, false).unwrap().count, 991);
        assert_eq!((unauthenticated.due(), unauthenticated.close(began + 2 * WINDOW, true)), (None, None));
        assert!(unauthenticated.admit(began + 2 * WINDOW, ()), "a new window begins");
    }

    #[test]
    fn what_begins_without_a_line_is_counted_when_it_ends() {
        let began = Instant::now();
        let mut repeats = UnauthenticatedLimit::with_lines(2);
        let begun = (0..5).map(|_| repeats.begin(began, ())).collect::<Vec<_>>();
        assert_eq!(begun, [true, true, false, false, false]);
        assert_eq!(repeats.due(), None, "none of them has ended");
        for _ in 0..3 {
            repeats.count(began + WINDOW * 3 / 2, ());
        }
        assert!(!repeats.is_over(began + 9 * WINDOW));
        assert_eq!(repeats.close(began + WINDOW * 5 / 2, false).unwrap().count, 3);
        assert!(repeats.is_over(began + WINDOW * 5 / 2));
    }

    #[test]
    fn a_few_unauthenticated_requests_all_have_lines() {
        let began = Instant::now();
        let mut unauthenticated = UnauthenticatedLimit::default();
        for minute in 0..5 {
            assert!((0..LINES).all(|_| unauthenticated.admit(began + minute * WINDOW, ())));
        }
        assert_eq!(unauthenticated.close(began + 5 * WINDOW, true), None);
    }
}
