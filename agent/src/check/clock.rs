//! Compares this machine's clock with the relay's, by the `Date` of an HTTP response (RFC 9110, section 6.6.1).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use jiff::Timestamp;

use super::report::Verdict;
use crate::status::format_duration;

/// A machine whose clock is synchronized is right to a fraction of a second; `Date` and the network delay add two
/// seconds. Beyond this the clock is not synchronized, and it will drift further.
const WARN_FROM: Duration = Duration::from_secs(5);
/// The agent sets the expiry of a link by its own clock and the relay checks it by its own; a minute is the shortest
/// practical lifetime of a link. Certificates are checked by this clock too.
const FAIL_FROM: Duration = Duration::from_secs(60);

const ADVICE: &str =
    "set this machine's clock, and keep it right: timedatectl set-ntp true, or install chrony";

/// How many seconds the relay's clock is ahead of this machine's; negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset(i64);

impl Offset {
    /// Reads a response. The request and the response happened at these times by this machine's clock. `Date` has whole
    /// seconds and is truncated, not rounded.
    pub(super) fn read(headers: &HeaderMap, asked: SystemTime, answered: SystemTime) -> Option<Self> {
        let date = headers.get(header::DATE)?.to_str().ok()?;
        let there = httpdate::parse_http_date(date).ok()? + Duration::from_millis(500);
        let here = asked + answered.duration_since(asked).unwrap_or_default() / 2;
        let ahead = |later: SystemTime, sooner| later.duration_since(sooner).ok().map(seconds);
        Some(Self(ahead(there, here).or_else(|| ahead(here, there).map(|behind| -behind))?))
    }

    /// The relay's time when this machine's clock shows `here`.
    pub(super) fn there(self, here: Timestamp) -> Timestamp {
        let there = here.as_second().saturating_add(self.0);
        Timestamp::from_second(there).unwrap_or(here)
    }

    /// Whether the offset is large enough to break things.
    pub(super) fn is_wrong(self) -> bool {
        self.0.unsigned_abs() >= FAIL_FROM.as_secs()
    }

    /// How far this machine's clock is off, for people: `1day 2h behind the relay's`.
    pub(super) fn to_text(self) -> String {
        let way = if self.0 > 0 { "behind the relay's" } else { "ahead of the relay's" };
        format!("{} {way}", format_duration(Duration::from_secs(self.0.unsigned_abs())))
    }
}

/// Evaluates the offset.
pub(super) fn evaluate(offset: Option<Offset>) -> Verdict {
    let Some(offset) = offset else {
        return Verdict::skipped(
            "the relay's response has no date, so this machine's clock was not compared",
        );
    };
    let seconds = offset.0.unsigned_abs();
    let detail = format!("this machine's clock is {}", offset.to_text());
    if seconds >= FAIL_FROM.as_secs() {
        Verdict::fail(
            format!("{detail}; links expire at the wrong time, and certificates can seem invalid"),
            ADVICE,
        )
    } else if seconds >= WARN_FROM.as_secs() {
        Verdict::warn(detail, ADVICE)
    } else {
        Verdict::pass(format!("this machine's clock agrees with the relay's ({:+} s)", -offset.0))
    }
}

/// Rounds to seconds, since [`Offset::read`] is exact to a second at best.
fn seconds(duration: Duration) -> i64 {
    let rounded = duration.saturating_add(Duration::from_millis(500));
    i64::try_from(rounded.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;
    use crate::check::report::State;

    /// The relay says that it is 2026-01-02 03:04:05.
    fn offset(here: i64) -> Option<Offset> {
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, HeaderValue::from_static("Fri, 02 Jan 2026 03:04:05 GMT"));
        let asked = UNIX_EPOCH + Duration::from_secs(u64::try_from(1_767_323_045 + here).unwrap());
        Offset::read(&headers, asked, asked + Duration::from_secs(1))
    }

    #[test]
    fn the_size_of_the_difference_decides_about_a_clock() {
        let judged = |here| evaluate(offset(here));
        assert_eq!(judged(0).state, State::Pass);
        assert_eq!(judged(4).state, State::Pass);
        assert_eq!((judged(5).state, judged(-5).state), (State::Warn, State::Warn));
        assert_eq!((judged(60).state, judged(-60).state), (State::Fail, State::Fail));
        let day = judged(-86_400 - 7200);
        assert!(day.detail.contains("1day 2h behind the relay's"), "{}", day.detail);
        assert!(judged(3600).detail.contains("1h ahead of the relay's"), "{}", judged(3600).detail);
        assert!(day.advice.unwrap().contains("clock"));
    }

    #[test]
    fn an_answer_without_a_date_skips_the_check() {
        assert_eq!(Offset::read(&HeaderMap::new(), UNIX_EPOCH, UNIX_EPOCH), None);
        assert_eq!(evaluate(None).state, State::Skipped);
    }

    #[test]
    fn the_relays_time_follows_from_this_machines() {
        let here = Timestamp::from_second(1_767_323_045 - 86_400).unwrap();
        let there = offset(-86_400).unwrap().there(here);
        assert_eq!(there, Timestamp::from_second(1_767_323_045).unwrap());
    }
}
