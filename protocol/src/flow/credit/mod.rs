//! Flow control of one stream: how much body the agent may send, and how much the relay has room for.
//!
//! There is no window for a whole tunnel: a client that pauses must not stop another one.

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

/// The credit, in bytes, that a DATA frame with `len` bytes of payload uses up.
pub fn cost(len: usize) -> u32 {
    // A DATA frame has at most `MAX_DATA_LEN` bytes, so the conversion never saturates.
    u32::try_from(len).unwrap_or(u32::MAX).max(MIN_DATA_COST)
}

/// A request of a window to its budgets.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// The first window of a new stream.
    First,
    /// This many more bytes for a window that grows.
    More(u32),
}

impl Want {
    fn bytes(self) -> u32 {
        match self {
            Self::First => INITIAL_WINDOW,
            Self::More(bytes) => bytes,
        }
    }
}

/// A limit on the sum of windows, shared by the streams of one tunnel or of one process. Windows grow only into one
/// half of it: however fast some downloads are, there is room for others to start.
#[derive(Debug)]
pub struct WindowBudget {
    limit: u64,
    used: AtomicU64,
}

impl WindowBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes that are in use now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, want: Want) -> bool {
        let limit = match want {
            Want::First => self.limit,
            Want::More(_) => self.limit / 2,
        };
        let fits = |used: u64| used.checked_add(want.bytes().into()).filter(|sum| *sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: u32) {
        let before = self.used.fetch_sub(u64::from(bytes), Ordering::Relaxed);
        debug_assert!(before >= u64::from(bytes), "more was given back than taken");
    }
}

/// The two budgets that a window must fit into.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// The budget of the stream's tunnel.
    pub tunnel: Arc<WindowBudget>,
    /// The budget of the whole process.
    pub process: Arc<WindowBudget>,
}

impl Budgets {
    fn take(&self, want: Want) -> bool {
        if !self.tunnel.take(want) {
            return false;
        }
        let taken = self.process.take(want);
        if !taken {
            self.tunnel.give_back(want.bytes());
        }
        taken
    }

    fn give_back(&self, bytes: u32) {
        self.tunnel.give_back(bytes);
        self.process.give_back(bytes);
    }
}

/// The agent's side: credit that is not used yet.
#[derive(Debug)]
pub(crate) struct SendWindow {
    available: u32,
}

/// The relay granted more credit than fits into a u32: it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditOverflow;

impl SendWindow {
    pub(crate) fn new(initial: u32) -> Self {
        Self { available: initial }
    }

    pub(crate) fn grant(&mut self, bytes: u32) -> Result<(), CreditOverflow> {
        self.available = self.available.checked_add(bytes).ok_or(CreditOverflow)?;
        Ok(())
    }

    /// Longest payload that may be sent now, in bytes; 0 while even the cheapest frame costs too much.
    pub(crate) fn sendable(&self) -> usize {
        if self.available < MIN_DATA_COST { 0 } else { FULL_DATA_LEN.min(self.available as usize) }
    }

    pub(crate) fn spend(&mut self, len: usize) {
        debug_assert!(len <= self.sendable(), "a frame beyond the credit");
        self.available = self.available.saturating_sub(cost(len));
    }
}

/// The relay's side: the bytes that it has promised to hold for one stream.
///
/// Invariant: `outstanding + buffered + unreturned == window`, where `buffered` is what the consumer has not taken yet.
/// The window is taken from the budgets as long as this value lives.
#[derive(Debug)]
pub(crate) struct ReceiveWindow {
    budgets: Budgets,
    window: u32,
    /// Credit that the agent holds.
    outstanding: u32,
    /// Credit that the consumer has freed and that was not sent to the agent yet.
    unreturned: u32,
    growth: Growth,
}

/// The network path between agent and relay, as far as windows depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The shortest recent round trip.
    pub(crate) min_rtt: Duration,
    /// True if small answers may have to wait behind the bytes that a window lets the agent send.
    pub(crate) shared: bool,
}

impl Way {
    /// The largest window that is used now, in bytes.
    fn largest(self) -> u32 {
        if !self.shared {
            return MAX_WINDOW;
        }
        let bytes = self.min_rtt.as_micros().saturating_mul(SHARED_WINDOW_PER_MICROSECOND.into());
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(INITIAL_WINDOW, MAX_WINDOW)
    }
}

/// Evidence that a larger window would help, gathered while half a window is received and consumed.
#[derive(Debug)]
struct Growth {
    since: Instant,
    /// Cost that is still to be consumed: what was received earlier, which says nothing about the link, plus half a
    /// window.
    left: u32,
}

/// The agent sent more than its credit: it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CreditExceeded;

impl ReceiveWindow {
    /// A first window, or `None` if a budget is used up.
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

    /// True if the agent may send now.
    pub(crate) fn is_open(&self) -> bool {
        self.outstanding >= MIN_DATA_COST
    }

    /// The largest possible sum of queued costs.
    #[cfg(test)]
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    pub(crate) fn receive(&mut self, len: usize) -> Result<(), CreditExceeded> {
        self.outstanding = self.outstanding.checked_sub(cost(len)).ok_or(CreditExceeded)?;
        Ok(())
    }

    /// The consumer took chunks of this cost. Returns the credit to send once half a window has been freed. Credit
    /// above the largest window that is used now is kept back.
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
