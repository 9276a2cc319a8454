//! Which requests of peer relays have come, so that a request that was recorded on the network is not answered when it
//! is sent again.
//!
//! Each relay numbers its requests. Peer is a bit for each of the last [`WINDOW`] numbers; older ones are refused, as
//! in IPsec (RFC 4303, section 3.4.3). Pure; the caller passes the time.

use std::collections::HashMap;

use super::key::{MAX_SKEW, Stamp};

/// Requests of one relay that may overtake each other: those of several seconds at full load.
const WINDOW: u64 = 65_536;
const BITS: u64 = u64::BITS as u64;

/// The requests that have come, by the run of the sender. Only a relay with the cluster's key can add a run.
#[derive(Debug, Default)]
pub(super) struct Replays {
    runs: HashMap<String, Run>,
}

#[derive(Debug)]
struct Run {
    highest: u64,
    /// A bit for each number of the window; its index is the number modulo the window.
    seen: Vec<u64>,
    /// When the latest request came, in seconds since the Unix epoch.
    latest: u64,
}

impl Replays {
    /// Notes a request whose proof is correct. Returns whether it is the first with its number.
    pub(super) fn is_first(&mut self, stamp: &Stamp, now: u64) -> bool {
        if !self.runs.contains_key(&stamp.from) {
            // Requests of these runs are refused because of their own time.
            self.runs.retain(|_, run| now.saturating_sub(run.latest) <= 2 * MAX_SKEW);
            self.runs.insert(stamp.from.clone(), Run::new(now));
        }
        self.runs.get_mut(&stamp.from).is_some_and(|run| run.is_first(stamp.number, now))
    }
}

impl Run {
    fn new(now: u64) -> Self {
        Self { highest: 0, seen: vec![0; usize::try_from(WINDOW / BITS).unwrap_or_default()], latest: now }
    }

    fn is_first(&mut self, number: u64, now: u64) -> bool {
        if number == 0 || number.saturating_add(WINDOW) <= self.highest {
            return false;
        }
        if number > self.highest {
            let new = (self.highest + 1..=number).rev().take(usize::try_from(WINDOW).unwrap_or_default());
            for skipped in new {
                self.set(skipped, false);
            }
            self.highest = number;
        }
        let is_first = !self.set(number, true);
        self.latest = now;
        is_first
    }

    /// Sets the bit of a number. Returns its earlier value.
    fn set(&mut self, number: u64, seen: bool) -> bool {
        let place = number % WINDOW;
        let bit = 1 << (place % BITS);
        let Some(word) = usize::try_from(place / BITS).ok().and_then(|word| self.seen.get_mut(word)) else {
            return true;
        };
        let was = *word & bit != 0;
        *word = if seen { *word | bit } else { *word & !bit };
        was
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(from: &str, number: u64) -> Stamp {
        Stamp { time: 0, from: from.to_owned(), number, to: String::new() }
    }

    #[test]
    fn a_question_that_comes_again_is_distinguished_from_a_late_one() {
        let mut replays = Replays::default();
        assert!(replays.is_first(&stamp("a", 3), 0));
        assert!(replays.is_first(&stamp("a", 1), 0), "it was overtaken");
        assert!(!replays.is_first(&stamp("a", 3), 0));
        assert!(replays.is_first(&stamp("b", 3), 0), "each relay has numbers of its own");
        assert!(replays.is_first(&stamp("a", WINDOW + 2), 0));
        assert!(!replays.is_first(&stamp("a", 2), 0), "too old to be remembered");
        assert!(replays.is_first(&stamp("a", 4), 0));
        assert!(replays.is_first(&stamp("a", u64::MAX), 0) && !replays.is_first(&stamp("a", u64::MAX), 0));
        assert!(!replays.is_first(&stamp("a", 0), 0));
    }

    #[test]
    fn relays_that_are_gone_are_forgotten() {
        let mut replays = Replays::default();
        replays.is_first(&stamp("a", 1), 0);
        replays.is_first(&stamp("b", 1), 2 * MAX_SKEW);
        assert_eq!(replays.runs.len(), 2);
        replays.is_first(&stamp("c", 1), 2 * MAX_SKEW + 1);
        assert_eq!(replays.runs.len(), 2, "what a asked is refused by its time");
    }

    proptest! {
        #[test]
        fn no_number_is_first_twice(numbers in prop::collection::vec(1..3 * WINDOW, 1..200)) {
            let mut replays = Replays::default();
            let mut first = std::collections::HashSet::new();
            for number in numbers.iter().chain(&numbers) {
                if replays.is_first(&stamp("a", *number), 0) {
                    prop_assert!(first.insert(*number), "{number}");
                }
            }
        }
    }
}
