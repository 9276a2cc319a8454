//! Random numbers that are the same for the same seed, on every machine and with every version of every library.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood, 2014): sixty-four bits of state, and every seed is a good one.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A separate generator for a task that runs in parallel.
    #[cfg(feature = "link")]
    pub(super) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0. Some numbers come up a little more often, which does not matter here.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in one of `cases` cases.
    pub(super) fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    /// A number of any order of magnitude up to `most`; small magnitudes are as likely as large ones.
    pub(super) fn magnitude(&mut self, most: u64) -> u64 {
        let bits = u64::from(most.max(1).ilog2()) + 1;
        let below = 1_u64 << self.below(bits + 1);
        self.below(below).min(most)
    }

    /// A duration of any order of magnitude up to `most`, in whole microseconds.
    pub(super) fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.magnitude(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
    }
}
