//! The waits between attempts to dial: exponential backoff with full jitter, without an end.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use rand::RngExt;

/// Upper limit of the first wait.
const FIRST: Duration = Duration::from_secs(1);
/// Upper limit of every later wait: a thousand agents then dial seventeen times a second at worst.
const MAX: Duration = Duration::from_secs(60);
/// A tunnel that lasted this long was a success. After a shorter one the backoff keeps growing; otherwise a relay
/// that accepts and drops at once would be dialled without a pause.
pub(super) const LASTED: Duration = Duration::from_secs(30);

/// Upper limit of a wait after a tunnel broke that the relay had welcomed: half of the time for which the relay lets
/// searches wait for the agent. A proxy may cut every tunnel after some seconds. That does not harm the relay, which
/// itself limits how many tunnels it accepts in a second.
const AFTER_BREAK: Duration = Duration::from_secs(4);

/// Computes the waits.
#[derive(Debug)]
pub(super) struct Backoff {
    ceilings: ExponentialBackoff,
}

impl Backoff {
    pub(super) fn new() -> Self {
        // The library's own jitter is at most half an interval, and by default it gives up after fifteen minutes.
        let ceilings = ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST)
            .with_multiplier(2.0)
            .with_max_interval(MAX)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { ceilings }
    }

    /// The next wait: uniformly random between zero and the upper limit, which doubles each time.
    pub(super) fn next(&mut self) -> Duration {
        let ceiling = self.ceilings.next_backoff().unwrap_or(MAX);
        between(Duration::ZERO, ceiling)
    }

    /// The next wait after a tunnel that the relay had welcomed broke without a message.
    pub(super) fn next_after_break(&mut self) -> Duration {
        let ceiling = self.ceilings.next_backoff().unwrap_or(MAX).min(AFTER_BREAK);
        self.ceilings.current_interval = self.ceilings.current_interval.min(AFTER_BREAK);
        between(Duration::ZERO, ceiling)
    }

    /// Starts again with the first wait, because a tunnel has lasted.
    pub(super) fn reset(&mut self) {
        self.ceilings.reset();
    }
}

/// A uniformly random duration between the bounds; `least` if they are in the wrong order.
pub(super) fn between(least: Duration, most: Duration) -> Duration {
    if least >= most { least } else { rand::rng().random_range(least..=most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_drawn_below_a_ceiling_that_doubles_to_a_minute_and_never_ends() {
        let mut backoff = Backoff::new();
        let mut longest = [Duration::ZERO; 100];
        for _ in 0..200 {
            backoff.reset();
            for (n, longest) in longest.iter_mut().enumerate() {
                let ceiling = MAX.min(FIRST * 2u32.saturating_pow(u32::try_from(n).unwrap()));
                let wait = backoff.next();
                assert!(wait <= ceiling, "wait {n} is {wait:?}, more than {ceiling:?}");
                *longest = (*longest).max(wait);
            }
        }
        assert!(longest[0] > FIRST / 2, "the first retry is drawn from the whole second");
        assert!(longest[99] > MAX / 2, "the hundredth is drawn from the whole minute");
    }

    #[test]
    fn breaks_of_welcomed_tunnels_keep_the_ceiling_low_and_failures_after_them_let_it_grow() {
        let mut backoff = Backoff::new();
        for _ in 0..1000 {
            assert!(backoff.next_after_break() <= AFTER_BREAK);
        }
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits[0] <= AFTER_BREAK && waits[1] <= 2 * AFTER_BREAK);
        assert!(waits.iter().any(|wait| *wait > MAX / 2), "a relay that is gone is left alone");
        assert!(backoff.next_after_break() <= AFTER_BREAK);
    }

    #[test]
    fn a_window_is_kept() {
        let least = Duration::from_millis(3);
        let most = Duration::from_millis(5);
        for _ in 0..100 {
            assert!((least..=most).contains(&between(least, most)));
        }
        assert_eq!(between(most, least), most);
    }
}
