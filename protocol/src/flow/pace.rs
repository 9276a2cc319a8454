//! How many bytes may wait below the lanes: few on a slow uplink, because the next answer waits behind all of them.

use std::time::{Duration, Instant};

use crate::limits::{
    BURST_TIME, FULL_BURST, FULL_UNSENT, PACE_INTERVAL, SHORTEST_BURST, UNSENT_FLOOR, UNSENT_TIME,
};

/// How fast the socket takes bodies, and what follows from that.
///
/// An interval in which bodies waited all the time shows how fast the link is. An interval in which at some time
/// nothing waited shows only that the link is at least that fast.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Bytes per second. It starts at 0, because an unknown link may be a slow one; being wrong costs a tenth of a
    /// second.
    rate: u64,
    /// True if, in any interval so far, bodies waited all the time: the rate was all that the socket would take.
    limited: bool,
    since: Option<Instant>,
    bytes: u64,
    starved: bool,
}

impl Pace {
    /// Bytes that may be handed to the socket before it must have passed them on: what the link carries in
    /// [`BURST_TIME`].
    pub(crate) fn burst(&self) -> usize {
        self.carries(BURST_TIME).clamp(SHORTEST_BURST, FULL_BURST)
    }

    /// Bytes that may wait unsent in the kernel: what the link carries in half a round trip, but not in more than
    /// [`UNSENT_TIME`]. If TCP finds nothing to send, it considers its own measurement of the link too low and keeps an
    /// older one, with which it overflows the queues on the path. On a slow link two bursts are enough to prevent that.
    pub(crate) fn unsent(&self, round_trip: Duration) -> usize {
        let floor = if self.limited { (2 * self.burst()).min(UNSENT_FLOOR) } else { UNSENT_FLOOR };
        self.carries(UNSENT_TIME.min(round_trip / 2)).clamp(floor, FULL_UNSENT)
    }

    /// This many bytes of body go to the socket.
    pub(crate) fn on_sent(&mut self, len: usize, now: Instant) {
        match self.since.map(|since| now.saturating_duration_since(since)) {
            Some(elapsed) if elapsed < PACE_INTERVAL => {}
            Some(elapsed) => {
                let rate = rate(self.bytes, elapsed);
                self.rate = if self.starved { self.rate.max(rate) } else { rate };
                self.limited |= !self.starved;
                self.begin(now);
            }
            None => self.begin(now),
        }
        self.bytes += len as u64;
    }

    /// No body waits any more, though the socket would take one.
    pub(crate) fn on_starved(&mut self) {
        self.starved = true;
        self.rate = self.rate.max(rate(self.bytes, PACE_INTERVAL));
    }

    fn begin(&mut self, now: Instant) {
        (self.since, self.bytes, self.starved) = (Some(now), 0, false);
    }

    fn carries(&self, time: Duration) -> usize {
        let bytes = u128::from(self.rate) * time.as_micros() / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Bytes per second.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / elapsed.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start_of_time;

    /// Sends bursts for one second over a link of `rate` bytes per second. Returns the burst after that.
    fn after_a_second(pace: &mut Pace, rate: u64, now: &mut Instant) -> usize {
        let end = *now + Duration::from_secs(1);
        while *now < end {
            let len = pace.burst();
            pace.on_sent(len, *now);
            *now += Duration::from_secs_f64(len as f64 / rate as f64);
        }
        pace.burst()
    }

    #[test]
    fn a_burst_is_what_the_link_carries_in_its_time() {
        let mut pace = Pace::default();
        let mut now = start_of_time();
        for (megabits, expected) in
            [(2, SHORTEST_BURST), (8, 16_000), (200, FULL_BURST), (8, 16_000), (1, SHORTEST_BURST)]
        {
            let burst = after_a_second(&mut pace, megabits * 125_000, &mut now);
            assert!(burst.abs_diff(expected) <= expected / 5, "{megabits} Mbit/s: {burst}");
        }
    }

    #[test]
    fn the_kernel_holds_little_but_on_a_quick_and_long_way() {
        let unsent = |megabits: u64, milliseconds| {
            let mut pace = Pace::default();
            let mut now = start_of_time();
            after_a_second(&mut pace, megabits * 125_000, &mut now);
            pace.unsent(Duration::from_millis(milliseconds))
        };
        assert_eq!(unsent(2, 30), 2 * SHORTEST_BURST);
        assert_eq!(unsent(8_000, 0), UNSENT_FLOOR);
        assert!((500_000..=750_000).contains(&unsent(200, 50)), "{}", unsent(200, 50));
        assert_eq!(unsent(10_000, 300), FULL_UNSENT);
    }

    #[test]
    fn few_answers_do_not_make_a_quick_link_slow() {
        let mut pace = Pace::default();
        let mut now = start_of_time();
        assert_eq!(pace.unsent(Duration::ZERO), UNSENT_FLOOR, "nor does none");
        pace.on_sent(1 << 20, now);
        pace.on_starved();
        assert_eq!(pace.burst(), FULL_BURST, "what is taken at once shows that the link is quick");
        for _ in 0..100 {
            now += Duration::from_millis(70);
            pace.on_sent(1_000, now);
            pace.on_starved();
        }
        assert_eq!(pace.burst(), FULL_BURST);
    }

    #[test]
    fn a_link_that_stood_still_is_a_slow_one() {
        let mut pace = Pace::default();
        let now = start_of_time();
        pace.on_sent(1 << 20, now);
        pace.on_sent(1 << 20, now + PACE_INTERVAL);
        assert_eq!(pace.burst(), FULL_BURST);
        pace.on_sent(1, now + Duration::from_secs(60));
        assert_eq!(pace.burst(), SHORTEST_BURST);
    }
}
