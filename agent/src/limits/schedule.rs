//! Data rates as providers write them, and rates that depend on the time: `2Mbit`, `1Mbit@08:00-18:00`,
//! `512kbit@Mon-Fri,Sun@22:00-06:00`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use audiovault_common::advice::Advice;
use jiff::{
    Timestamp,
    civil::{Time, Weekday},
    tz::TimeZone,
};

/// Slowest rate: below it, telephone audio (64 kbit/s) could not be played in real time, and requests would time out.
const MIN_BITS: u64 = 64_000;
/// Fastest valid rate: more than any uplink, and all sums stay far within 64 bits.
const MAX_BITS: u64 = 100_000_000_000;

/// Units of bits and bytes per second; powers of ten, as is usual for networks.
const UNITS: [(&str, u64); 7] = [
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1000),
    ("gb", 8_000_000_000),
    ("mb", 8_000_000),
    ("kb", 8000),
    ("bit", 1),
];

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A rate, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// A text that is not a valid rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid rate")]
pub struct RateError(String);

impl Advice for RateError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        Some("use 64kbit to 100Gbit, such as 2Mbit or 1.5Mbit/s (or kB, MB)".into())
    }
}

impl Rate {
    /// How long this many bytes take.
    pub fn time_for(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes can be sent in this time.
    pub fn bytes_in(self, time: Duration) -> u64 {
        let bytes = u128::from(self.0) * time.as_nanos() / 8 / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = || RateError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let plain = lower.strip_suffix("/s").unwrap_or(&lower);
        let unit = UNITS.iter().find_map(|(unit, bits)| Some((plain.strip_suffix(unit)?, bits)));
        let (number, bits) = unit.ok_or_else(wrong)?;
        let (whole, part) = number.trim().split_once('.').unwrap_or((number.trim(), ""));
        let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 {
            return Err(wrong());
        }
        // Computed in thousandths, so that nothing has to be rounded.
        let thousandths: u64 = format!("{whole}{part:0<3}").parse().map_err(|_| wrong())?;
        let rate = thousandths.checked_mul(*bits).ok_or_else(wrong)? / 1000;
        (MIN_BITS..=MAX_BITS).contains(&rate).then_some(Self(rate)).ok_or_else(wrong)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kbit/s", self.0 / 1000)
    }
}

/// A text that is not a valid rate with a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The rate is invalid.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// The days or hours are invalid.
    #[error("{0:?} is not a valid time")]
    Time(String),
}

impl Advice for ScheduleError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Rate(error) => error.advice(),
            Self::Time(_) => {
                Some("use days such as Mon-Fri or Sat,Sun, and hours such as 08:00-18:00".into())
            }
        }
    }
}

/// A rate, and when it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    rate: Rate,
    /// The days on which it applies, Monday first.
    days: [bool; 7],
    /// From the first time until just before the second; past midnight if the second is not later than the first.
    hours: Option<(Time, Time)>,
}

/// Rates with times. The first one that applies now counts; without one there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<Entry>,
    zone: TimeZone,
}

impl Default for Schedule {
    /// No limit.
    fn default() -> Self {
        Self { entries: Vec::new(), zone: TimeZone::UTC }
    }
}

impl Schedule {
    /// Parses the entries; the first has the highest priority.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        zone: TimeZone,
    ) -> Result<Self, ScheduleError> {
        let entries = texts.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { entries, zone })
    }

    /// Whether there is no limit at any time.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The rate that applies at a moment.
    pub fn at(&self, now: Timestamp) -> Option<Rate> {
        let local = now.to_zoned(self.zone.clone());
        let day = local.weekday();
        let time = local.time();
        self.entries.iter().find(|entry| entry.holds(day, time)).map(|entry| entry.rate)
    }
}

impl Entry {
    fn holds(&self, day: Weekday, time: Time) -> bool {
        let on = |day: Weekday| self.days[usize::from(day.to_monday_zero_offset().unsigned_abs())];
        match self.hours {
            None => on(day),
            Some((from, to)) if from < to => on(day) && (from..to).contains(&time),
            // Past midnight, the day is the one on which the period began.
            Some((from, to)) => (on(day) && time >= from) || (on(day.previous()) && time < to),
        }
    }
}

impl FromStr for Entry {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let mut parts = text.split('@').map(str::trim);
        let rate = parts.next().unwrap_or_default().parse()?;
        let mut entry = Self { rate, days: [true; 7], hours: None };
        for part in parts {
            if part.contains(':') {
                entry.hours = Some(hours(part)?);
            } else {
                entry.days = days(part)?;
            }
        }
        Ok(entry)
    }
}

fn hours(text: &str) -> Result<(Time, Time), ScheduleError> {
    let wrong = || ScheduleError::Time(text.to_owned());
    let time = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let digits = |text: &str| (text.len() == 2).then(|| text.parse::<i8>().ok()).flatten();
        match (digits(hour)?, digits(minute)?) {
            // 24:00 is the end of a day.
            (24, 0) => Some(Time::midnight()),
            (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
        }
    };
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    Ok((time(from).ok_or_else(wrong)?, time(to).ok_or_else(wrong)?))
}

fn days(text: &str) -> Result<[bool; 7], ScheduleError> {
    let wrong = || ScheduleError::Time(text.to_owned());
    let day = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        DAYS.iter().position(|(known, _)| *known == name)
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first = day(first).ok_or_else(wrong)?;
        let last = day(last).ok_or_else(wrong)?;
        let count = (last + 7 - first) % 7 + 1;
        for at in (first..first + count).map(|at| at % 7) {
            days[at] = true;
        }
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_providers_write_them() {
        for (text, bits) in [
            ("2Mbit", 2_000_000),
            ("1.5 mbit/s", 1_500_000),
            ("256kbit/s", 256_000),
            ("250kB", 2_000_000),
            ("1MB/s", 8_000_000),
            ("1Gbit", 1_000_000_000),
            ("64000bit", 64_000),
        ] {
            assert_eq!(text.parse(), Ok(Rate(bits)), "{text}");
        }
        for bad in [
            "",
            "2",
            "Mbit",
            "63kbit",
            "-1Mbit",
            "1e3kbit",
            "1.Mbits",
            "0.0001Gbit",
            "200Gbit",
            "99999999999999999999Gbit",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_and_time_agree() {
        let rate: Rate = "2Mbit".parse().unwrap();
        assert_eq!(rate.time_for(250_000), Duration::from_secs(1));
        assert_eq!(rate.bytes_in(Duration::from_millis(100)), 25_000);
        assert_eq!(rate.time_for(0), Duration::ZERO);
    }

    fn at(texts: &[&str], moment: &str) -> Option<String> {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let schedule = Schedule::parse(texts.iter().copied(), zone).unwrap();
        let moment: Timestamp = moment.parse().unwrap();
        schedule.at(moment).map(|rate| rate.to_string())
    }

    #[test]
    fn the_first_rate_that_holds_now_counts() {
        let office = ["1Mbit@Mon-Fri@08:00-18:00", "4Mbit"];
        // 2024-03-25 is a Monday; Madrid is an hour ahead of UTC in winter, two from the end of March.
        for (moment, rate) in [
            ("2024-03-25T06:59:59Z", 4000),
            ("2024-03-25T07:00:00Z", 1000),
            ("2024-03-25T16:59:59Z", 1000),
            ("2024-03-25T17:00:00Z", 4000),
            ("2024-03-30T10:00:00Z", 4000),
            ("2024-04-01T06:00:00Z", 1000),
        ] {
            assert_eq!(at(&office, moment), Some(format!("{rate} kbit/s")), "{moment}");
        }
        assert_eq!(at(&["1Mbit@Sat,Sun"], "2024-03-25T10:00:00Z"), None, "no limit");
        assert_eq!(at(&[], "2024-03-25T10:00:00Z"), None);
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_began() {
        let night = ["8Mbit@Fri@22:00-06:00"];
        for (moment, holds) in [
            ("2024-03-29T20:59:00Z", false),
            ("2024-03-29T21:00:00Z", true),
            ("2024-03-30T04:59:00Z", true),
            ("2024-03-30T05:00:00Z", false),
            ("2024-03-30T21:00:00Z", false),
        ] {
            assert_eq!(at(&night, moment).is_some(), holds, "{moment}");
        }
        assert!(at(&["8Mbit@18:00-24:00"], "2024-03-29T22:30:00Z").is_some());
        assert!(at(&["8Mbit@Sat-Mon"], "2024-03-31T10:00:00Z").is_some(), "Sunday lies between");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "1Mbit@",
            "1Mbit@Mon-",
            "1Mbit@8:00-18:00",
            "1Mbit@08:00",
            "1Mbit@25:00-26:00",
            "1Mbit@Mo",
            "x@Mon",
        ] {
            assert!(Schedule::parse([bad], TimeZone::UTC).is_err(), "{bad}");
        }
    }
}
