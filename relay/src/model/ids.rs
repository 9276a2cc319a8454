//! Names for requests and sessions.

use http::HeaderName;
use jiff::Timestamp;

/// Carries a request's id to the asker.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Twenty-four hexadecimal digits: eleven of the time in milliseconds since the Unix epoch, and thirteen (52 bits) drawn
/// at random, which no relay repeats within a millisecond. Names that grow with time are filed one beside the other, where
/// names without order would have a database write a page for each.
pub fn new_id() -> String {
    let time = Timestamp::now().as_millisecond().cast_unsigned() & 0xfff_ffff_ffff;
    let random: u64 = rand::random::<u64>() >> 12;
    format!("{time:011x}{random:013x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_later_times_come_later_and_none_comes_twice() {
        let before = new_id();
        let since = Timestamp::now();
        while Timestamp::now().as_millisecond() == since.as_millisecond() {}
        let after: std::collections::BTreeSet<String> = (0..10_000).map(|_| new_id()).collect();
        assert_eq!(after.len(), 10_000);
        assert!(after.iter().all(|id| id.len() == 24 && *id > before));
    }
}
