//! Figures of a tunnel that its driver publishes.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::watch;

/// Figures that the driver updates and that handles read.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    open_streams: AtomicUsize,
    /// 0 until a round trip was measured.
    rtt_micros: AtomicU64,
    silent: watch::Sender<bool>,
}

impl Gauges {
    pub(crate) fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open_streams(&self, count: usize) {
        self.open_streams.store(count, Ordering::Relaxed);
    }

    /// Follows whether the peer is silent when something should have been received from it.
    pub(crate) fn silence(&self) -> watch::Receiver<bool> {
        self.silent.subscribe()
    }

    pub(crate) fn is_silent(&self) -> bool {
        *self.silent.borrow()
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.send_if_modified(|before| std::mem::replace(before, silent) != silent);
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Ordering::Relaxed);
        (micros != 0).then_some(Duration::from_micros(micros))
    }

    pub(crate) fn set_rtt(&self, rtt: Option<Duration>) {
        let micros = rtt.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1));
        self.rtt_micros.store(micros, Ordering::Relaxed);
    }
}
