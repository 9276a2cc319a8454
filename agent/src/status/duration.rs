//! Formats durations for people.

use std::time::Duration;

/// Formats a duration in its two largest units, truncated to whole seconds: `2days 3h`.
pub fn format_duration(duration: Duration) -> String {
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_are_enough() {
        assert_eq!(format_duration(Duration::from_secs(86_400 + 7_200 + 61)), "1day 2h");
        assert_eq!(format_duration(Duration::from_millis(61_900)), "1m 1s");
        assert_eq!(format_duration(Duration::from_millis(900)), "0s");
    }
}
