//! From runs to numbers: the results of one run, and the median of several.

use std::time::Duration;

use serde_json::{Value, json};

use crate::compare::workload::{Outcome, Workload};

/// One run of a workload by one contender.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) contender: String,
    pub(crate) workload: Workload,
    pub(crate) outcome: Outcome,
    /// Processor time of the programs.
    pub(crate) used: Used<Duration>,
}

/// Something of each program of a contender, such as its processor time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used<T> {
    /// The program that clients connect to, such as the relay.
    pub(crate) server: T,
    /// The program at the other end of the tunnel, such as the agent.
    pub(crate) client: T,
    /// The web server or the classic AudioVault behind them.
    pub(crate) origin: T,
}

impl<T> Used<T> {
    /// A value of each of them.
    pub(crate) fn each<U>(&self, value: impl Fn(&T) -> U) -> Used<U> {
        Used { server: value(&self.server), client: value(&self.client), origin: value(&self.origin) }
    }
}

impl Used<Duration> {
    /// What was used after an earlier reading.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            client: self.client.saturating_sub(before.client),
            origin: self.origin.saturating_sub(before.origin),
        }
    }
}

impl Used<f64> {
    /// Of the two ends of the tunnel.
    pub(crate) fn tunnel(self) -> f64 {
        self.server + self.client
    }

    /// Of everything.
    pub(crate) fn total(self) -> f64 {
        self.tunnel() + self.origin
    }
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

    /// Seconds of processor time per GiB.
    pub(crate) fn per_gibibyte(&self) -> Used<f64> {
        let gibibytes = self.outcome.bytes as f64 / f64::from(1 << 30);
        self.used.each(|time| time.as_secs_f64() / gibibytes)
    }

    /// Microseconds of processor time per request.
    pub(crate) fn per_request(&self) -> Used<f64> {
        let requests = self.outcome.times.len() as f64;
        self.used.each(|time| time.as_secs_f64() * 1e6 / requests)
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
            "server_seconds": self.used.server.as_secs_f64(),
            "client_seconds": self.used.client.as_secs_f64(),
            "origin_seconds": self.used.origin.as_secs_f64(),
        })
    }
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * percent / 100;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
