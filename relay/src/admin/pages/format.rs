//! Numbers, sizes, durations and times in the notation of each language.

use jiff::Timestamp;

use super::Language;

impl Language {
    /// The decimal mark.
    fn decimal_mark(self) -> char {
        match self {
            Self::English => '.',
            Self::Spanish => ',',
        }
    }

    /// A whole number. Spanish separates groups of three digits with a narrow space, from five digits on.
    pub fn number(self, number: u64) -> String {
        let digits = number.to_string();
        let (mark, from) = match self {
            Self::English => (',', 4),
            Self::Spanish => ('\u{202f}', 5),
        };
        if digits.len() < from {
            return digits;
        }
        let mut text = String::with_capacity(digits.len() * 2);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(mark);
            }
            text.push(digit);
        }
        text
    }

    /// A size in bytes, in the largest unit in which it is at least 1. Units are powers of ten, as for disks.
    pub fn size(self, bytes: u64) -> String {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        let mut unit = 0;
        let mut tenths = u128::from(bytes) * 10;
        while tenths >= 10_000 && unit + 1 < UNITS.len() {
            tenths /= 1000;
            unit += 1;
        }
        let name = UNITS.get(unit).copied().unwrap_or_default();
        if unit == 0 || tenths >= 100 {
            return format!("{}\u{a0}{name}", tenths / 10);
        }
        format!("{}{}{}\u{a0}{name}", tenths / 10, self.decimal_mark(), tenths % 10)
    }

    /// A number with one decimal.
    pub fn decimal(self, number: f64) -> String {
        format!("{number:.1}").replace('.', &self.decimal_mark().to_string())
    }

    /// A duration in its two largest units. Both languages have the same abbreviations for them.
    pub fn duration(self, seconds: u64) -> String {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
        let Some(first) = UNITS.iter().position(|(length, _)| seconds >= *length) else {
            return "0\u{a0}s".to_owned();
        };
        let mut rest = seconds;
        let mut parts = Vec::new();
        for (length, name) in UNITS.iter().skip(first).take(2) {
            if rest >= *length {
                parts.push(format!("{}\u{a0}{name}", rest / length));
            }
            rest %= length;
        }
        parts.join(" ")
    }

    /// A time in UTC. It is shown until a script converts it to the browser's time zone.
    pub fn moment(self, time: Timestamp) -> String {
        let format = match self {
            Self::English => "%Y-%m-%d %H:%M UTC",
            Self::Spanish => "%d/%m/%Y %H:%M UTC",
        };
        time.strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Language::{English, Spanish};

    #[test]
    fn numbers_read_as_in_a_newspaper_of_the_country() {
        assert_eq!([0, 999, 1000, 1_234_567].map(|n| English.number(n)), ["0", "999", "1,000", "1,234,567"]);
        let spanish = [999, 1234, 12_345, 1_234_567].map(|n| Spanish.number(n));
        assert_eq!(spanish, ["999", "1234", "12\u{202f}345", "1\u{202f}234\u{202f}567"]);
        assert_eq!((English.decimal(3.25), Spanish.decimal(12.0)), ("3.2".to_owned(), "12,0".to_owned()));
    }

    #[test]
    fn sizes_and_durations_keep_two_figures() {
        let sizes = [0, 999, 1000, 1_550_000, 15_500_000, u64::MAX].map(|bytes| English.size(bytes));
        assert_eq!(
            sizes.map(|size| size.replace('\u{a0}', " ")),
            ["0 B", "999 B", "1.0 kB", "1.5 MB", "15 MB", "18446 PB"]
        );
        assert_eq!(Spanish.size(1_550_000), "1,5\u{a0}MB");
        let durations = [0, 59, 60, 3661, 90_000, 86_400].map(|seconds| English.duration(seconds));
        let durations = durations.map(|text| text.replace('\u{a0}', " "));
        assert_eq!(durations, ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h", "1 d"]);
    }

    #[test]
    fn moments_say_their_zone() {
        let time = "2026-11-23T04:05:06Z".parse().unwrap();
        assert_eq!(English.moment(time), "2026-11-23 04:05 UTC");
        assert_eq!(Spanish.moment(time), "23/11/2026 04:05 UTC");
    }
}
