//! Ids of requests, under which a log has their details.

use http::HeaderName;
use jiff::Timestamp;

/// The header with which a client gets the id of its request.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Draws a new id of 24 hexadecimal digits.
///
/// The first eleven are the time in milliseconds since the Unix epoch. The other thirteen (52 bits) are random,
/// and no relay repeats them within a millisecond. A database stores ids that grow with time next to each
/// other; with ids in random order it would write a page for each.
pub fn new_id() -> String {
    let time = Timestamp::now().as_millisecond().cast_unsigned() & 0xfff_ffff_ffff;
    let random: u64 = rand::random::<u64>() >> 12;
    format!("{time:011x}{random:013x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_later_times_come_later_and_are_unique() {
        let before = new_id();
        let since = Timestamp::now();
        while Timestamp::now().as_millisecond() == since.as_millisecond() {}
        let after: std::collections::BTreeSet<String> = (0..10_000).map(|_| new_id()).collect();
        assert_eq!(after.len(), 10_000);
        assert!(after.iter().all(|id| id.len() == 24 && *id > before));
    }
}
