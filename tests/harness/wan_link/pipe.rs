//! One direction of a link: which packets pass, and when. This module uses no clock and no device.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// The smallest queue before a link, in bytes: the size that small routers have.
const SHORTEST_QUEUE: f64 = 256.0 * 1024.0;

/// How late a packet is if others overtake it.
const OVERTAKEN_BY: Duration = Duration::from_millis(5);

/// What one direction of a link does to packets. By default it delivers all of them at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How long every packet travels after it has left the queue.
    pub delay: Duration,
    /// The most by which a random delay, evenly distributed, is added to that. It does not change the order of
    /// packets.
    pub jitter: Duration,
    /// The rate in bits per second, counted for whole IP packets. Without a rate there is no queue.
    pub rate: Option<u64>,
    /// How many bytes may wait before the link. A packet that arrives when the queue is full is lost. By default it is
    /// what the link transmits in one round trip, which is twice this delay, but at least 256 KiB.
    pub queue: Option<usize>,
    /// The share of packets that are lost at random, from 0 to 1.
    pub loss: f64,
    /// The share of packets that are so late that others overtake them, from 0 to 1.
    pub reorder: f64,
    /// Whether nothing passes at all. Packets in flight are lost too.
    pub down: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate: None,
            queue: None,
            loss: 0.0,
            reorder: 0.0,
            down: false,
        }
    }
}

impl Settings {
    /// Settings with half of a round trip as the delay, and a rate in bits per second.
    pub fn new(round_trip: Duration, rate: u64) -> Self {
        Self { delay: round_trip / 2, rate: Some(rate), ..Self::default() }
    }

    /// Adds a loss of this share of packets, from 0 to 1.
    #[must_use]
    pub fn losing(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// The longest time that a packet can wait in the queue at this rate.
    fn longest_wait(&self, rate: u64) -> Duration {
        let bytes_per_second = rate as f64 / 8.0;
        let round_trip = 2.0 * self.delay.as_secs_f64() * bytes_per_second;
        let queue = self.queue.map_or(round_trip.max(SHORTEST_QUEUE), |queue| queue as f64);
        Duration::from_secs_f64(queue / bytes_per_second)
    }
}

/// The number of packets by what happened to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that arrived at the other end.
    pub passed: u64,
    /// Packets that were lost at random.
    pub lost: u64,
    /// Packets that were lost because the queue was full.
    pub overflowed: u64,
    /// Packets that were sent, or in flight, while the link was down.
    pub cut: u64,
}

/// One direction of the link.
#[derive(Debug)]
pub(super) struct Pipe {
    settings: Settings,
    random: SmallRng,
    counts: Counts,
    /// When the previous packet has left the queue.
    free: Instant,
    /// Packets in flight, by due time: those that arrive in order, and those that others overtake.
    under_way: [VecDeque<(Instant, Packet)>; 2],
    /// Buffers that can be used again.
    spare: Vec<Packet>,
}

/// The bytes of a packet.
type Packet = Vec<u8>;

impl Pipe {
    pub(super) fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            random: SmallRng::seed_from_u64(seed),
            counts: Counts::default(),
            free: now,
            under_way: [VecDeque::new(), VecDeque::new()],
            spare: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a packet from the sender.
    pub(super) fn push(&mut self, packet: &[u8], now: Instant) {
        if self.settings.down {
            self.counts.cut += 1;
            return;
        }
        if self.happens(self.settings.loss) {
            self.counts.lost += 1;
            return;
        }
        let begin = self.free.max(now);
        if let Some(rate) = self.settings.rate {
            if begin - now > self.settings.longest_wait(rate) {
                self.counts.overflowed += 1;
                return;
            }
            self.free = begin + Duration::from_secs_f64(packet.len() as f64 * 8.0 / rate as f64);
        }
        let jitter = self.settings.jitter.mul_f64(self.random.random::<f64>());
        let late = self.happens(self.settings.reorder);
        let due = self.free.max(now) + self.settings.delay + jitter;
        let due = if late { due + OVERTAKEN_BY } else { due };
        let lane = &mut self.under_way[usize::from(late)];
        let due = lane.back().map_or(due, |(before, _)| due.max(*before));
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        lane.push_back((due, buffer));
    }

    /// Delivers every packet that has arrived by now. Returns their number.
    pub(super) fn deliver(&mut self, now: Instant, mut out: impl FnMut(&[u8])) -> usize {
        let mut arrived = 0;
        while let Some(lane) = self.earliest().filter(|(due, _)| *due <= now).map(|(_, lane)| lane) {
            let Some((_, packet)) = self.under_way[lane].pop_front() else { break };
            if self.settings.down {
                self.counts.cut += 1;
            } else {
                self.counts.passed += 1;
                out(&packet);
            }
            self.spare.push(packet);
            arrived += 1;
        }
        arrived
    }

    /// When the next packet arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.earliest().map(|(due, _)| due)
    }

    fn earliest(&self) -> Option<(Instant, usize)> {
        let fronts = self.under_way.iter().enumerate();
        fronts.filter_map(|(lane, queue)| Some((queue.front()?.0, lane))).min()
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random::<f64>() < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// Length of each packet in these tests, in bytes: 10 ms at [`RATE`].
    const LEN: usize = 1250;
    const RATE: u64 = 1_000_000;

    /// Sends packets of [`LEN`] bytes at once, each with its number in the first byte, and checks the pipe every
    /// millisecond. Returns number and arrival time in milliseconds.
    fn run(settings: Settings, packets: u8) -> (Vec<(u8, u128)>, Counts) {
        let start = Instant::now();
        let mut pipe = Pipe::new(settings, 1, start);
        for n in 0..packets {
            let mut packet = [0; LEN];
            packet[0] = n;
            pipe.push(&packet, start);
        }
        let mut arrived = Vec::new();
        for ms in 0..10_000 {
            let now = start + ms * MS;
            pipe.deliver(now, |packet| arrived.push((packet[0], (now - start).as_millis())));
        }
        assert_eq!(pipe.next(), None);
        (arrived, pipe.counts())
    }

    #[test]
    fn packets_leave_at_the_rate_and_arrive_after_the_delay() {
        let (arrived, _) = run(Settings::new(100 * MS, RATE), 4);
        assert_eq!(arrived, [(0, 60), (1, 70), (2, 80), (3, 90)]);
        let (arrived, _) = run(Settings::default(), 3);
        assert_eq!(arrived, [(0, 0), (1, 0), (2, 0)]);
    }

    #[test]
    fn who_finds_the_queue_full_is_lost() {
        let (arrived, counts) = run(Settings { queue: Some(3 * LEN), ..Settings::new(MS, RATE) }, 100);
        // The packet that is being sent is not in the queue.
        assert_eq!((arrived.len(), counts.overflowed), (4, 96));
        let (arrived, _) = run(Settings::new(MS, RATE), 255);
        assert_eq!(arrived.len(), SHORTEST_QUEUE as usize / LEN + 1);
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let jitter = Settings { delay: 10 * MS, jitter: 50 * MS, ..Settings::default() };
        let (arrived, _) = run(jitter, 50);
        assert!(arrived.is_sorted_by_key(|(n, _)| *n) && arrived.len() == 50);
        assert!(arrived[0].1 >= 10 && (40..=60).contains(&arrived[49].1), "{arrived:?}");
        let (arrived, _) = run(Settings { reorder: 0.3, ..Settings::new(MS, 10 * RATE) }, 50);
        assert!(!arrived.is_sorted_by_key(|(n, _)| *n) && arrived.len() == 50);
    }

    #[test]
    fn loss_is_what_was_asked_for_and_the_same_every_time() {
        let lossy = || run(Settings::default().losing(0.2), 250);
        let (arrived, counts) = lossy();
        assert!((35..=65).contains(&counts.lost), "{counts:?}");
        assert_eq!(arrived.len() as u64, counts.passed);
        assert_eq!(lossy().0, arrived);
    }

    #[test]
    fn a_link_that_goes_down_loses_what_is_under_way() {
        let start = Instant::now();
        let mut pipe = Pipe::new(Settings { delay: 10 * MS, ..Settings::default() }, 1, start);
        pipe.push(&[1], start);
        let up = pipe.settings();
        pipe.set(Settings { down: true, ..up });
        pipe.push(&[2], start);
        assert_eq!(pipe.deliver(start + 20 * MS, |_| panic!("it is down")), 1);
        pipe.set(up);
        pipe.push(&[3], start + 20 * MS);
        let mut arrived = Vec::new();
        pipe.deliver(start + 30 * MS, |packet| arrived.extend_from_slice(packet));
        assert_eq!((arrived.as_slice(), pipe.counts().cut), ([3].as_slice(), 2));
    }
}
