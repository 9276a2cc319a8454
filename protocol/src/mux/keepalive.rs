//! When to ping, when the peer is dead, and how long a round trip takes.

use std::time::{Duration, Instant};

use crate::limits::{BUSY_FOR, DEAD_AFTER, PING_AFTER, PING_AFTER_BUSY, SILENT_AFTER};

/// How many round trips the minimum looks back on: a minute of a busy tunnel, so that a changed network route is
/// noticed.
const SAMPLES: usize = 32;

/// The payload of our pings (RFC 6455, section 5.5.2): a counter, so that a late pong is not taken for the pong of a
/// later ping.
pub type PingPayload = [u8; 8];

/// One side's view of whether its peer is alive.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    last_inbound: Instant,
    last_ping: Option<Instant>,
    awaited: Option<PingPayload>,
    /// Since when no ping has been answered, if a ping waits for its answer.
    unanswered: Option<Instant>,
    count: u64,
    /// Since when the tunnel has been busy without a break, and until when it counts as busy.
    busy: Option<[Instant; 2]>,
    silent: bool,
    samples: [Option<Duration>; SAMPLES],
    next_sample: usize,
}

impl KeepAlive {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last_inbound: now,
            last_ping: None,
            awaited: None,
            unanswered: None,
            count: 0,
            busy: None,
            silent: false,
            samples: [None; SAMPLES],
            next_sample: 0,
        }
    }

    /// Bytes were received, of any kind.
    pub(crate) fn on_inbound(&mut self, now: Instant) {
        self.last_inbound = self.last_inbound.max(now);
    }

    /// A stream is open.
    pub(crate) fn on_busy(&mut self, now: Instant) {
        let since = self.busy.filter(|[_, until]| now <= *until).map_or(now, |[since, _]| since);
        self.busy = Some([since, now + BUSY_FOR]);
    }

    pub(crate) fn on_pong(&mut self, payload: &[u8], now: Instant) {
        let number = payload.try_into().map(u64::from_be_bytes).unwrap_or_default();
        if (1..=self.count).contains(&number) {
            self.unanswered = self.last_ping.filter(|_| number < self.count);
        }
        if self.awaited.is_none_or(|awaited| awaited != payload) {
            return;
        }
        self.awaited = None;
        if let Some(sent) = self.last_ping {
            self.samples[self.next_sample % SAMPLES] = Some(now.saturating_duration_since(sent));
            self.next_sample += 1;
        }
    }

    /// The ping that is due, if any. The first one is due at once: it measures the new path.
    pub(crate) fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        if now < self.ping_due() {
            return None;
        }
        self.count += 1;
        let payload = self.count.to_be_bytes();
        self.last_ping = Some(now);
        self.unanswered.get_or_insert(now);
        self.awaited = Some(payload);
        Some(payload)
    }

    /// True if something should have been received from the peer by now: the tunnel is busy, and for [`SILENT_AFTER`]
    /// nothing was received, or no answer to a ping. No answer to a ping means that the path carries data in one
    /// direction only.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Decides whether the peer is silent at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.silent = self.silent_from().is_some_and(|from| now >= from);
    }

    fn silent_from(&self) -> Option<Instant> {
        // Where queues on the path make round trips long, a silence of the same length means nothing.
        let patience = SILENT_AFTER.max(3 * self.rtt().unwrap_or_default());
        let [busy, until] = self.busy?;
        // On an idle tunnel nothing was received for a long time, and nothing had to be.
        let last = self.last_inbound.max(busy);
        let from = self.unanswered.map_or(last, |since| since.min(last)) + patience;
        (from <= until).then_some(from)
    }

    pub(crate) fn is_dead(&self, now: Instant) -> bool {
        now >= self.last_inbound + DEAD_AFTER
    }

    /// When something is due next. While the socket accepts no data (not `may_send`), a ping is no reason to wake up.
    pub(crate) fn next_timeout(&self, may_send: bool) -> Instant {
        let dead = self.last_inbound + DEAD_AFTER;
        let silent = self.silent_from().filter(|_| !self.silent);
        let at = silent.map_or(dead, |from| from.min(dead));
        if may_send { self.ping_due().min(at) } else { at }
    }

    /// The latest round trip.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.samples[(self.next_sample + SAMPLES - 1) % SAMPLES]
    }

    /// The shortest recent round trip. One that was measured under load would be too long.
    pub(crate) fn min_rtt(&self) -> Option<Duration> {
        self.samples.iter().flatten().min().copied()
    }

    fn ping_due(&self) -> Instant {
        let Some(last) = self.last_ping else {
            return self.last_inbound;
        };
        let soon = last + PING_AFTER_BUSY;
        match self.busy {
            Some([_, until]) if soon < until => soon,
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
    fn a_busy_peer_is_silent_after_three_seconds_until_it_sends_again() {
        let start = start_of_time();
        let mut life = KeepAlive::new(start);
        life.handle_timeout(start + 20 * SECOND);
        assert!(!life.is_silent(), "an idle peer has nothing to say");
        life.on_busy(start + 20 * SECOND);
        let from = start + 20 * SECOND + SILENT_AFTER;
        assert!(life.next_timeout(false) <= from);
        life.handle_timeout(from - SECOND / 1000);
        assert!(!life.is_silent());
        life.handle_timeout(from);
        assert!(life.is_silent());
        assert!(life.next_timeout(false) > from, "what was noticed is nothing to wake up for");
        life.on_inbound(from + SECOND);
        life.handle_timeout(from + SECOND);
        assert!(!life.is_silent());
    }

    #[test]
    fn a_peer_that_sends_but_answers_no_ping_receives_nothing() {
        let start = start_of_time();
        let mut life = KeepAlive::new(start);
        life.on_busy(start);
        let mut now = start;
        let mut last = life.poll_ping(now).unwrap();
        while now < start + SILENT_AFTER {
            life.handle_timeout(now);
            assert!(!life.is_silent());
            now += SECOND / 2;
            life.on_inbound(now);
            last = life.poll_ping(now).unwrap_or(last);
        }
        life.handle_timeout(now);
        assert!(life.is_silent());
        life.on_pong(&last, now);
        life.handle_timeout(now);
        assert!(!life.is_silent());
    }

    #[test]
    fn a_slow_way_is_no_silence() {
        let start = start_of_time();
        let mut life = KeepAlive::new(start);
        // Every pong arrives after the next two pings.
        for n in 1..60 {
            let now = start + n * SECOND;
            life.on_busy(now);
            life.on_inbound(now);
            let _ = life.poll_ping(now);
            if n > 4 {
                life.on_pong(&(u64::from(n - 4) / 2).to_be_bytes(), now);
            }
            life.handle_timeout(now);
            assert!(!life.is_silent() || n < 10, "after {n} s");
        }
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
