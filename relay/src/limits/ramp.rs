//! How fast tunnels are admitted. After a restart all agents come back at once; admitted all at once they would
//! keep the relay busy with handshakes while listeners wait.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How much may come at once after a pause: what comes in one second at the admitted rate.
const BURST: Duration = Duration::from_secs(1);
/// The furthest that a refused agent is put off. Who comes later than that is no surprise to the admitted rate.
const FURTHEST: Duration = Duration::from_secs(60);

/// Admits tunnels at a bounded rate and gives those who have to wait one slot each, one after the other.
#[derive(Debug)]
pub struct AcceptRamp {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When what was admitted so far would have come at exactly the admitted rate.
    admitted_until: Option<Instant>,
    /// The last slot that was given away.
    booked_until: Option<Instant>,
}

impl AcceptRamp {
    /// Admits so many tunnels a second; zero counts as one.
    pub fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.max(1), state: Mutex::default() }
    }

    /// Admits a tunnel now.
    ///
    /// # Errors
    /// How long to wait: a slot of one's own, at least a second and at most a minute away.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = state.admitted_until.map_or(now, |until| until.max(now)) + self.interval;
        if until <= now + BURST.max(self.interval) {
            state.admitted_until = Some(until);
            return Ok(());
        }
        let free = now + Duration::from_secs(1);
        let slot = state.booked_until.map_or(free, |booked| booked.max(free)) + self.interval;
        let slot = slot.min(now + FURTHEST);
        state.booked_until = Some(slot);
        Err(slot - now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A thousand agents come at once and come again when told, somewhere within that second as agents do.
    #[test]
    fn a_thousand_agents_are_in_after_some_ten_seconds_and_never_more_than_the_rate_at_once() {
        let ramp = AcceptRamp::new(100);
        let start = Instant::now();
        let mut waiting: BTreeMap<(Duration, u32), ()> =
            (0..1000).map(|n| ((Duration::ZERO, n), ())).collect();
        let (mut admitted, mut knocks) = (Vec::new(), 0);
        while let Some(((at, agent), ())) = waiting.pop_first() {
            knocks += 1;
            match ramp.admit(start + at) {
                Ok(()) => admitted.push(at),
                Err(wait) => {
                    assert!((Duration::from_secs(1)..=FURTHEST).contains(&wait));
                    let spread = Duration::from_millis(u64::from(agent * 7919 % 1000));
                    waiting.insert((at + Duration::from_secs(wait.as_secs()) + spread, agent), ());
                }
            }
        }
        assert_eq!(admitted.len(), 1000);
        let last = admitted.iter().max().unwrap();
        assert!(*last < Duration::from_secs(20), "{last:?}");
        assert!(knocks < 3000, "{knocks} knocks for 1000 agents");
        for second in 0..20 {
            let within = |at: &&Duration| at.as_secs() == second;
            let count = admitted.iter().filter(within).count();
            assert!(count <= 200, "{count} were admitted in second {second}");
        }
    }

    #[test]
    fn slots_are_given_one_after_the_other() {
        let ramp = AcceptRamp::new(2);
        let now = Instant::now();
        assert!(ramp.admit(now).is_ok() && ramp.admit(now).is_ok());
        let waits: Vec<_> = (0..4).map(|_| ramp.admit(now).unwrap_err().as_millis()).collect();
        assert_eq!(waits, [1500, 2000, 2500, 3000]);
        assert!(ramp.admit(now + Duration::from_secs(2)).is_ok());
    }

    #[test]
    fn even_the_slowest_relay_admits() {
        let ramp = AcceptRamp::new(1);
        let now = Instant::now();
        assert!(ramp.admit(now).is_ok());
        assert!(ramp.admit(now).is_err());
        assert!(ramp.admit(now + Duration::from_secs(1)).is_ok());
    }
}
