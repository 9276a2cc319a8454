//! When to ping, when the peer is dead, and how long a round trip takes.

use std::time::{Duration, Instant};

use crate::limits::{BUSY_FOR, DEAD_AFTER, PING_AFTER, PING_AFTER_BUSY};

/// How many round trips the minimum looks back on: a minute of a busy tunnel, so that a change of route is noticed.
const SAMPLES: usize = 32;

/// The payload of our pings (RFC 6455, section 5.5.2): a counter, so that an old pong is not taken for a new one.
pub type PingPayload = [u8; 8];

/// One side's view of the peer's life.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    heard: Instant,
    last_ping: Option<Instant>,
    awaited: Option<PingPayload>,
    count: u64,
    busy_until: Option<Instant>,
    samples: [Option<Duration>; SAMPLES],
    next_sample: usize,
}

impl KeepAlive {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            last_ping: None,
            awaited: None,
            count: 0,
            busy_until: None,
            samples: [None; SAMPLES],
            next_sample: 0,
        }
    }

    /// Octets came in, whatever they were.
    pub(crate) fn on_inbound(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// A stream is open.
    pub(crate) fn on_busy(&mut self, now: Instant) {
        self.busy_until = Some(now + BUSY_FOR);
    }

    pub(crate) fn on_pong(&mut self, payload: &[u8], now: Instant) {
        if self.awaited.is_none_or(|awaited| awaited != payload) {
            return;
        }
        self.awaited = None;
        if let Some(sent) = self.last_ping {
            self.samples[self.next_sample % SAMPLES] = Some(now.saturating_duration_since(sent));
            self.next_sample += 1;
        }
    }

    /// The ping that is due, if one is. The first is due at once: it measures the fresh path.
    pub(crate) fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        if now < self.ping_due() {
            return None;
        }
        self.count += 1;
        let payload = self.count.to_be_bytes();
        self.last_ping = Some(now);
        self.awaited = Some(payload);
        Some(payload)
    }

    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        now >= self.heard + DEAD_AFTER
    }

    /// When something is due; a ping is nothing to wake up for while the socket takes none (`may_send`).
    pub(crate) fn next_timeout(&self, may_send: bool) -> Instant {
        let dead = self.heard + DEAD_AFTER;
        if may_send { self.ping_due().min(dead) } else { dead }
    }

    /// The latest round trip.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.samples[(self.next_sample + SAMPLES - 1) % SAMPLES]
    }

    /// The shortest recent round trip: one that was measured under load would lie.
    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        self.samples.iter().flatten().min().copied()
    }

    fn ping_due(&self) -> Instant {
        let Some(last) = self.last_ping else {
            return self.heard;
        };
        let soon = last + PING_AFTER_BUSY;
        match self.busy_until {
            Some(until) if soon < until => soon,
            _ => last + PING_AFTER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start_of_time;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_idle_side_pings_every_quarter_of_a_minute_and_a_busy_one_every_two_seconds() {
        let start = start_of_time();
        let mut life = KeepAlive::new(start);
        assert!(life.poll_ping(start).is_some(), "the first ping measures the path");
        assert!(life.poll_ping(start + PING_AFTER - SECOND / 1000).is_none());
        assert!(life.poll_ping(start + PING_AFTER).is_some());
        life.on_busy(start + PING_AFTER);
        assert!(life.poll_ping(start + PING_AFTER + PING_AFTER_BUSY).is_some());
    }

    #[test]
    fn a_peer_is_dead_after_45_seconds_of_silence_and_not_before() {
        let start = start_of_time();
        let mut life = KeepAlive::new(start);
        life.on_inbound(start + SECOND);
        assert!(!life.is_dead(start + SECOND + DEAD_AFTER - SECOND / 1000));
        assert!(life.is_dead(start + SECOND + DEAD_AFTER));
        life.on_inbound(start + 40 * SECOND);
        assert!(!life.is_dead(start + SECOND + DEAD_AFTER));
    }

    #[test]
    fn only_the_pong_of_the_last_ping_is_a_round_trip() {
        let start = start_of_time();
        let mut life = KeepAlive::new(start);
        let first = life.poll_ping(start).unwrap();
        life.on_pong(b"12345678", start + SECOND);
        assert_eq!(life.rtt(), None);
        life.on_pong(&first, start + 3 * SECOND);
        life.on_pong(&first, start + 9 * SECOND);
        let second = life.poll_ping(start + PING_AFTER).unwrap();
        life.on_pong(&second, start + PING_AFTER + 5 * SECOND);
        assert_eq!((life.rtt(), life.min_rtt()), (Some(5 * SECOND), Some(3 * SECOND)));
    }
}
