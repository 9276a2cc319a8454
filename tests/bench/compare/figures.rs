//! From runs to numbers: the results of one run, and the median of several.

use std::time::Duration;

use serde_json::{Value, json};

use crate::compare::workload::{Outcome, Workload};

/// One run of a workload by one contender.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) contender: &'static str,
    pub(crate) workload: Workload,
    pub(crate) outcome: Outcome,
    /// Processor time of the programs of the tunnel.
    pub(crate) programs: Duration,
    /// Processor time of the web server behind them.
    pub(crate) origin: Duration,
}

impl Run {
    /// MB per second.
    pub(crate) fn megabytes(&self) -> f64 {
        self.outcome.bytes as f64 / 1e6 / self.outcome.elapsed.as_secs_f64()
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.outcome.times.len() as f64 / self.outcome.elapsed.as_secs_f64()
    }

    /// Seconds of processor time per GiB, of the tunnel's programs and of the origin.
    pub(crate) fn per_gibibyte(&self) -> [f64; 2] {
        let gibibytes = self.outcome.bytes as f64 / f64::from(1 << 30);
        [self.programs, self.origin].map(|time| time.as_secs_f64() / gibibytes)
    }

    /// Milliseconds of processor time per 1,000 requests, of the tunnel's programs and of the origin.
    pub(crate) fn per_thousand(&self) -> [f64; 2] {
        let requests = self.outcome.times.len() as f64 / 1e3;
        [self.programs, self.origin].map(|time| time.as_secs_f64() * 1e3 / requests)
    }

    /// A percentile in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.outcome.times, percent)
    }

    /// The same without load.
    pub(crate) fn calm(&self, percent: usize) -> f64 {
        percentile(&self.outcome.calm, percent)
    }

    /// All results, for other programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "contender": self.contender,
            "workload": format!("{:?}", self.workload),
            "seconds": self.outcome.elapsed.as_secs_f64(),
            "bytes": self.outcome.bytes,
            "requests": self.outcome.times.len(),
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
            "calm_p50_ms": self.calm(50),
            "calm_p99_ms": self.calm(99),
            "programs_seconds": self.programs.as_secs_f64(),
            "origin_seconds": self.origin.as_secs_f64(),
        })
    }
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * percent / 100;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
