//! Rates that depend on the time: `2Mbit`, `1Mbit@08:00-18:00`, `512kbit@Mon-Fri,Sun@22:00-06:00`.

use std::str::FromStr;

use jiff::{
    Timestamp,
    civil::{Time, Weekday},
    tz::TimeZone,
};

use super::rate::{Rate, RateError};

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A text that is not a valid rate with a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The rate is invalid.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// The days or hours are invalid.
    #[error("{0:?} is not a valid time; use days such as Mon-Fri or Sat,Sun, and hours such as 08:00-18:00")]
    Time(String),
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
