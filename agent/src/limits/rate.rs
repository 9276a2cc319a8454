//! A data rate, as providers write it.

use std::{fmt, str::FromStr, time::Duration};

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

/// A rate, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// A text that is not a valid rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid rate; use 64kbit to 100Gbit, such as 2Mbit or 1.5Mbit/s (or kB, MB)")]
pub struct RateError(String);

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
}
