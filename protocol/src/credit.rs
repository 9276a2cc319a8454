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

/// What a window takes from a budget.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// The window of a stream that opens.
    First,
    /// So many octets for a window that grows.
    More(u32),
}

impl Want {
    fn octets(self) -> u32 {
        match self {
            Self::First => INITIAL_WINDOW,
            Self::More(octets) => octets,
        }
    }
}

/// A bound on the sum of windows, shared by the streams of one tunnel or of one process. Windows grow into one half of it
/// only: however quick some downloads are, there is room for others to begin.
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

    fn take(&self, want: Want) -> bool {
        let limit = match want {
            Want::First => self.limit,
            Want::More(_) => self.limit / 2,
        };
        let fits = |used: u64| used.checked_add(want.octets().into()).filter(|sum| *sum <= limit);
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
    fn take(&self, want: Want) -> bool {
        if !self.tunnel.take(want) {
            return false;
        }
        let taken = self.process.take(want);
        if !taken {
            self.tunnel.give_back(want.octets());
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
        budgets.take(Want::First).then(|| Self {
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
        if helps && more > 0 && self.budgets.take(Want::More(more)) {
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
mod tests;
