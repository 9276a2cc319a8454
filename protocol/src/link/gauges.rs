//! What a tunnel's driver lets others see of it.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// Figures that the driver updates and handles read.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    open_streams: AtomicUsize,
    /// 0 until there was a round trip.
    rtt_micros: AtomicU64,
}

impl Gauges {
    pub(crate) fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open_streams(&self, count: usize) {
        self.open_streams.store(count, Ordering::Relaxed);
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
