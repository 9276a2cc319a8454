//! The time at the beginning of a line, as `tracing_subscriber` writes it: `2026-11-30T09:41:07.123456Z`.
//!
//! A busy program writes thousands of lines within a second, which differ in their microseconds alone. Each thread
//! keeps the text of the last second.

use std::{
    cell::Cell,
    fmt, str,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime as AnyTime},
};

/// Bytes of a time up to the point before its microseconds.
const SECOND_LEN: usize = 20;
/// Bytes of a whole time.
const LEN: usize = SECOND_LEN + 7;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let text = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(text);
        match text.as_ref().and_then(|text| str::from_utf8(text).ok()) {
            Some(text) => writer.write_str(text),
            // A clock that stands before 1970, or after 9999.
            None => AnyTime.format_time(writer),
        }
    }
}

/// The text of a time since 1970. `None` from the end of the year 9999 on.
fn text(since_1970: Duration) -> Option<[u8; LEN]> {
    thread_local! {
        static LAST: Cell<Option<(u64, [u8; SECOND_LEN])>> = const { Cell::new(None) };
    }
    let second = since_1970.as_secs();
    let of_second = match LAST.get() {
        Some((last, of_second)) if last == second => of_second,
        _ => {
            let time = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
            let of_second = time.strftime("%Y-%m-%dT%H:%M:%S.").to_string().into_bytes().try_into().ok()?;
            LAST.set(Some((second, of_second)));
            of_second
        }
    };
    let mut text = [b'Z'; LEN];
    let (seconds, rest) = text.split_at_mut(SECOND_LEN);
    seconds.copy_from_slice(&of_second);
    let mut left = since_1970.subsec_micros();
    for digit in rest.iter_mut().rev().skip(1) {
        *digit = b"0123456789"[(left % 10) as usize];
        left /= 10;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(clock: impl FormatTime) -> String {
        let mut text = String::new();
        clock.format_time(&mut Writer::new(&mut text)).unwrap();
        text
    }

    #[test]
    fn times_are_those_of_the_library_within_a_second_and_from_one_to_the_next() {
        for micros in [0, 1, 999_999, 1_000_000, 999_999, 1_711_441_902_017_000, 253_402_207_199_999_999] {
            let time = Timestamp::from_microsecond(micros).unwrap();
            let expected = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            let text = text(Duration::from_micros(micros.cast_unsigned())).unwrap();
            assert_eq!(str::from_utf8(&text).unwrap(), expected);
        }
        for _ in 0..1000 {
            let before = written(AnyTime);
            let now = written(Clock);
            let after = written(AnyTime);
            assert!(before <= now && now <= after && now.len() == before.len(), "{before} {now} {after}");
        }
    }

    #[test]
    fn a_year_of_five_digits_is_left_to_the_library() {
        assert_eq!(text(Duration::from_secs(253_402_300_800)), None);
        assert_eq!(text(Duration::MAX), None);
    }
}
