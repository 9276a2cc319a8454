//! Keeps strangers from filling a record: who has shown neither a right token nor a link that opens gets a few lines
//! a minute, and the rest is counted. Relay and agent do the same. Pure; takes `now`, and the time of day as the caller has it.

use std::time::{Duration, Instant};

/// The time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of their own for strangers in a window. With the counting line that is at most 10 MB a day, so that not even
/// weeks of knocking push the true record out of the files that are kept.
const LINES: u32 = 10;

/// Counts the strangers' requests.
#[derive(Debug)]
pub struct Strangers<T> {
    window: Option<Window<T>>,
}

#[derive(Debug)]
struct Window<T> {
    began: Instant,
    since: T,
    lines: u32,
    counted: u64,
}

/// What was counted and has no lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppressed<T> {
    /// Since when.
    pub since: T,
    /// How many requests.
    pub count: u64,
}

impl<T> Default for Strangers<T> {
    fn default() -> Self {
        Self { window: None }
    }
}

impl<T> Strangers<T> {
    /// Whether a stranger's request at `now` gets a line of its own.
    pub fn admit(&mut self, now: Instant, time_of_day: T) -> bool {
        let over = |window: &Window<T>| now >= window.began + WINDOW && window.counted == 0;
        if self.window.as_ref().is_none_or(over) {
            self.window = Some(Window { began: now, since: time_of_day, lines: 0, counted: 0 });
        }
        let Some(window) = &mut self.window else { return false };
        let admitted = window.lines < LINES && window.counted == 0;
        if admitted {
            window.lines += 1;
        } else {
            window.counted += 1;
        }
        admitted
    }

    /// When the count is to be told; never while there is none.
    pub fn due(&self) -> Option<Instant> {
        self.window.as_ref().filter(|window| window.counted > 0).map(|window| window.began + WINDOW)
    }

    /// Ends a window that is over at `now`, or any if it is the last: what was counted in it.
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
        let mut strangers = Strangers::default();
        let lines = (0..1000).filter(|n| strangers.admit(began + Duration::from_millis(*n), ())).count();
        assert_eq!(lines, 10);
        assert_eq!(strangers.due(), Some(began + WINDOW));
        assert_eq!(strangers.close(began + WINDOW / 2, false), None);
        // The count is told late; who comes meanwhile is counted too.
        assert!(!strangers.admit(began + 2 * WINDOW, ()));
        assert_eq!(strangers.close(began + 2 * WINDOW, false).unwrap().count, 991);
        assert_eq!((strangers.due(), strangers.close(began + 2 * WINDOW, true)), (None, None));
        assert!(strangers.admit(began + 2 * WINDOW, ()), "a new window begins");
    }

    #[test]
    fn few_strangers_all_have_lines() {
        let began = Instant::now();
        let mut strangers = Strangers::default();
        for minute in 0..5 {
            assert!((0..LINES).all(|_| strangers.admit(began + minute * WINDOW, ())));
        }
        assert_eq!(strangers.close(began + 5 * WINDOW, true), None);
    }
}
