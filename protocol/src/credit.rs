//! Flow control of one stream: how much body the agent may send, and what the relay has room for.
//!
//! There is no window over a whole tunnel: a listener who paused must not stop another one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::limits::{
    FULL_DATA_LEN, INITIAL_WINDOW, MAX_WINDOW, MIN_DATA_COST, SHARED_WINDOW_PER_MICROSECOND,
    WINDOW_GROWTH_FLOOR, WINDOW_GROWTH_RTTS,
};

/// The credit that a DATA frame with so many octets uses up.
pub fn cost(len: usize) -> u32 {
    // A DATA frame has at most `MAX_DATA_LEN` octets, so the conversion never saturates.
    u32::try_from(len).unwrap_or(u32::MAX).max(MIN_DATA_COST)
}

/// A bound on the sum of windows, shared by the streams of one tunnel or of one process.
#[derive(Debug)]
pub struct WindowBudget {
    limit: u64,
    used: AtomicU64,
}

impl WindowBudget {
    /// A budget of so many octets.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Octets taken now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, octets: u32) -> bool {
        let fits = |used: u64| used.checked_add(u64::from(octets)).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, octets: u32) {
        let before = self.used.fetch_sub(u64::from(octets), Ordering::Relaxed);
        debug_assert!(before >= u64::from(octets), "more was given back than taken");
    }
}

/// The two budgets that a window must fit into.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Of the stream's tunnel.
    pub tunnel: Arc<WindowBudget>,
    /// Of the whole process.
    pub process: Arc<WindowBudget>,
}

impl Budgets {
    fn take(&self, octets: u32) -> bool {
        if !self.tunnel.take(octets) {
            return false;
        }
        let taken = self.process.take(octets);
        if !taken {
            self.tunnel.give_back(octets);
        }
        taken
    }

    fn give_back(&self, octets: u32) {
        self.tunnel.give_back(octets);
        self.process.give_back(octets);
    }
}

/// The agent's side: credit not yet used.
#[derive(Debug)]
pub(crate) struct SendWindow {
    available: u32,
}

/// The relay granted more than a u32 of credit: it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditOverflow;

impl SendWindow {
    pub(crate) fn new(initial: u32) -> Self {
        Self { available: initial }
    }

    pub(crate) fn grant(&mut self, octets: u32) -> Result<(), CreditOverflow> {
        self.available = self.available.checked_add(octets).ok_or(CreditOverflow)?;
        Ok(())
    }

    /// The longest payload that may be sent now; 0 while even the cheapest frame costs too much.
    pub(crate) fn sendable(&self) -> usize {
        if self.available < MIN_DATA_COST { 0 } else { FULL_DATA_LEN.min(self.available as usize) }
    }

    pub(crate) fn spend(&mut self, len: usize) {
        debug_assert!(len <= self.sendable(), "a frame beyond the credit");
        self.available = self.available.saturating_sub(cost(len));
    }
}

/// The relay's side: what it promised to hold for one stream.
///
/// Always: `outstanding + buffered + unreturned == window`, where `buffered` is what the consumer has not taken.
/// The window is taken from the budgets while the value lives.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    budgets: Budgets,
    window: u32,
    /// Credit that the agent holds.
    outstanding: u32,
    /// Credit that the consumer has freed and the agent was not yet told of.
    unreturned: u32,
    growth: Growth,
}

/// The way between agent and relay, as far as windows depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The shortest recent round trip.
    pub(crate) min_rtt: Duration,
    /// Whether small answers may have to wait behind what a window lets the agent send.
    pub(crate) shared: bool,
}

impl Way {
    /// The largest window that is used now.
    fn largest(self) -> u32 {
        if !self.shared {
            return MAX_WINDOW;
        }
        let octets = self.min_rtt.as_micros().saturating_mul(SHARED_WINDOW_PER_MICROSECOND.into());
        u32::try_from(octets).unwrap_or(u32::MAX).clamp(INITIAL_WINDOW, MAX_WINDOW)
    }
}

/// Evidence that a larger window would help, gathered while half a window is received and consumed.
#[derive(Debug)]
struct Growth {
    since: Instant,
    /// Cost still to be consumed: what had been received before, which tells nothing of the link, and half a window.
    left: u32,
}

/// The agent sent more than its credit: it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditExceeded;

impl ReceiveWindow {
    /// A first window, or `None` when a budget is spent.
    pub(crate) fn open(budgets: &Budgets, now: Instant) -> Option<Self> {
        budgets.take(INITIAL_WINDOW).then(|| Self {
            budgets: budgets.clone(),
            window: INITIAL_WINDOW,
            outstanding: INITIAL_WINDOW,
            unreturned: 0,
            growth: Growth { since: now, left: INITIAL_WINDOW / 2 },
        })
    }

    /// Credit that the agent holds.
    pub(crate) fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Whether the agent could send now.
    pub(crate) fn is_open(&self) -> bool {
        self.outstanding >= MIN_DATA_COST
    }

    /// The largest sum of queued costs that there can be.
    #[cfg(test)]
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn receive(&mut self, len: usize) -> Result<(), CreditExceeded> {
        self.outstanding = self.outstanding.checked_sub(cost(len)).ok_or(CreditExceeded)?;
        Ok(())
    }

    /// The consumer took chunks of this cost. Returns the credit to send once half a window has gathered; what exceeds
    /// the largest window that is used now is kept back.
    pub(crate) fn consume(&mut self, cost: u32, now: Instant, way: Way) -> Option<u32> {
        debug_assert!(
            self.outstanding + self.unreturned + cost <= self.window,
            "more consumed than received"
        );
        self.unreturned = (self.unreturned + cost).min(self.window - self.outstanding);
        self.growth.left = self.growth.left.saturating_sub(cost);
        if self.growth.left == 0 {
            self.grow(now, way);
        }
        let used = self.window.min(way.largest());
        let credit = self.unreturned.saturating_sub(self.window - used);
        if credit < used / 2 {
            return None;
        }
        self.unreturned -= credit;
        self.outstanding += credit;
        Some(credit)
    }

    fn grow(&mut self, now: Instant, way: Way) {
        let quick = (way.min_rtt * WINDOW_GROWTH_RTTS).max(WINDOW_GROWTH_FLOOR);
        let helps = now.saturating_duration_since(self.growth.since) <= quick;
        let more = self.window.min(way.largest().saturating_sub(self.window));
        if helps && more > 0 && self.budgets.take(more) {
            self.window += more;
            self.unreturned += more;
        }
        let buffered = self.window - self.outstanding - self.unreturned;
        self.growth = Growth { since: now, left: buffered + self.window / 2 };
    }
}

impl Drop for ReceiveWindow {
    fn drop(&mut self) {
        self.budgets.give_back(self.window);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::MAX_DATA_LEN;
    use crate::testing::start_of_time;

    fn budgets(tunnel: u64, process: u64) -> Budgets {
        Budgets { tunnel: WindowBudget::new(tunnel), process: WindowBudget::new(process) }
    }

    const MS: Duration = Duration::from_millis(1);

    /// A way that nothing else uses.
    fn alone(min_rtt: Duration) -> Way {
        Way { min_rtt, shared: false }
    }

    #[test]
    fn the_agent_never_spends_what_it_was_not_given() {
        let mut window = SendWindow::new(MIN_DATA_COST);
        assert_eq!(window.sendable(), MIN_DATA_COST as usize);
        window.spend(1);
        assert_eq!(window.sendable(), 0, "one octet costs as much as {MIN_DATA_COST}");
        window.grant(MIN_DATA_COST - 1).unwrap();
        assert_eq!(window.sendable(), 0);
        window.grant(1_000_000).unwrap();
        assert_eq!(window.sendable(), FULL_DATA_LEN);
        assert_eq!(window.grant(u32::MAX), Err(CreditOverflow));
    }

    #[test]
    fn one_octet_too_many_is_seen() {
        let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), start_of_time()).unwrap();
        for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
            window.receive(MAX_DATA_LEN).unwrap();
        }
        assert_eq!(window.receive(1), Err(CreditExceeded));
    }

    #[test]
    fn credit_returns_in_halves_of_the_window() {
        let now = start_of_time();
        let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
        for _ in 0..INITIAL_WINDOW as usize / MAX_DATA_LEN {
            window.receive(MAX_DATA_LEN).unwrap();
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(window.consume(INITIAL_WINDOW / 2 - 1, later, alone(MS)), None);
        assert_eq!(window.consume(1, later, alone(MS)), Some(INITIAL_WINDOW / 2));
    }

    fn use_up(window: &mut ReceiveWindow, now: Instant, way: Way) {
        let mut queued = 0;
        while window.is_open() {
            let len = MAX_DATA_LEN.min(window.outstanding() as usize);
            window.receive(len).unwrap();
            queued += cost(len);
        }
        window.consume(queued, now, way);
    }

    #[test]
    fn a_window_doubles_while_it_is_what_limits_a_fast_stream() {
        let mut now = start_of_time();
        let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
        for expected in [512, 1024, 2048, 4096, 8192, 8192].map(|kib| kib * 1024) {
            now += 149 * MS;
            use_up(&mut window, now, alone(50 * MS));
            assert_eq!(window.window(), expected);
        }
    }

    #[test]
    fn a_window_doubles_for_a_consumer_who_takes_every_frame_at_once() {
        let (mut now, mut queue) = (start_of_time(), std::collections::VecDeque::new());
        let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
        let mut credit = INITIAL_WINDOW as usize;
        // Credit is under way for a round trip, and the link itself is quick.
        for _ in 0..40 {
            now += 10 * MS;
            while queue.front().is_some_and(|(at, _)| *at <= now) {
                credit += queue.pop_front().map_or(0, |(_, octets)| octets as usize);
            }
            while credit >= MAX_DATA_LEN {
                credit -= MAX_DATA_LEN;
                window.receive(MAX_DATA_LEN).unwrap();
                let returned = window.consume(cost(MAX_DATA_LEN), now, alone(50 * MS));
                queue.extend(returned.map(|octets| (now + 50 * MS, octets)));
            }
        }
        assert_eq!(window.window(), MAX_WINDOW);
    }

    #[test]
    fn a_large_window_is_kept_back_while_others_ask_on_a_short_way() {
        let mut now = start_of_time();
        let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
        let shared = |microseconds| Way { min_rtt: Duration::from_micros(microseconds), shared: true };
        for (way, expected) in [
            (alone(50 * MS), 512 * 1024),
            (alone(50 * MS), 1024 * 1024),
            (shared(100), 256 * 1024),
            (shared(100), 256 * 1024),
            (shared(1_024), 512 * 1024),
            (shared(50_000), 2048 * 1024),
            (shared(100), 256 * 1024),
            (alone(MS), 2048 * 1024),
        ] {
            now += MS;
            use_up(&mut window, now, way);
            assert_eq!(window.outstanding(), expected, "{way:?}");
        }
    }

    #[test]
    fn what_had_waited_for_its_consumer_tells_nothing_of_the_link() {
        let now = start_of_time();
        let mut window = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
        use_up(&mut window, now + 10_000 * MS, alone(MS));
        for _ in 0..8 {
            window.receive(MAX_DATA_LEN).unwrap();
        }
        // The consumer comes back after ten seconds and takes at once what is there.
        for _ in 0..8 {
            window.consume(cost(MAX_DATA_LEN), now + 20_000 * MS, alone(MS));
        }
        assert_eq!(window.window(), INITIAL_WINDOW);
    }

    #[test]
    fn a_window_stays_while_the_consumer_is_slow_or_a_budget_is_spent() {
        let now = start_of_time();
        let mut slow = ReceiveWindow::open(&budgets(u64::MAX, u64::MAX), now).unwrap();
        use_up(&mut slow, now + 151 * MS, alone(50 * MS));
        assert_eq!(slow.window(), INITIAL_WINDOW);

        let tight = budgets(u64::MAX, u64::from(INITIAL_WINDOW));
        let mut poor = ReceiveWindow::open(&tight, now).unwrap();
        use_up(&mut poor, now, alone(50 * MS));
        assert_eq!(poor.window(), INITIAL_WINDOW);
        assert!(ReceiveWindow::open(&tight, now).is_none(), "the process has no second window");
        assert_eq!(tight.tunnel.used(), u64::from(INITIAL_WINDOW), "a refused window takes nothing");
        drop(poor);
        assert_eq!((tight.tunnel.used(), tight.process.used()), (0, 0));
    }

    proptest! {
            #[test]
            fn whatever_happens_the_books_balance(steps in prop::collection::vec((1..MAX_DATA_LEN, 0..100u64, any::<bool>(), any::<bool>()), 1..400)) {
                let mut now = start_of_time();
                let budgets = budgets(u64::MAX, 3 * 1024 * 1024);
                let mut relay = ReceiveWindow::open(&budgets, now).unwrap();
                let mut agent = SendWindow::new(INITIAL_WINDOW);
                let mut buffered = Vec::new();
                for (len, wait, consume, shared) in steps {
                    now += MS * u32::try_from(wait).unwrap() / 10;
                    let len = len.min(agent.sendable());
                    if len > 0 {
                        agent.spend(len);
                        prop_assert_eq!(relay.receive(len), Ok(()));
                        buffered.push(cost(len));
                    }
                    if consume
     && !buffered.is_empty()
     && let Some(credit) = relay.consume(buffered.remove(0), now, Way { min_rtt: 20 * MS / 100, shared })
    {
     agent.grant(credit).unwrap();
    }
                    let sum = relay.outstanding + relay.unreturned + buffered.iter().sum::<u32>();
                    prop_assert_eq!(sum, relay.window);
                    prop_assert_eq!(agent.available, relay.outstanding);
                    prop_assert!(agent.sendable() > 0 || !buffered.is_empty(), "an emptied stream is never stuck");
                    prop_assert_eq!(budgets.process.used(), u64::from(relay.window));
                }
            }
        }
}
