//! Metrics for Prometheus, built on request, as OpenMetrics 1.0 or in the older text format.

mod collectors;
mod format;

use std::{fmt, sync::Arc, time::Duration};

use audiovault_common::listener::Gate;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use self::collectors::{ProcessCollector, RefusalsCollector, SitesCollector};
pub use self::format::Format;
use crate::{
    audit::journal::Journal, limits::Limits, monitoring::board::Snapshot,
    tunnel::registry::Registry as Sessions,
};

/// The prefix of all names.
const PREFIX: &str = "audiovault_relay";

/// Bounds of the histogram of response times in seconds: a search on one machine takes a millisecond, through a slow
/// uplink a second, and after 15 s the relay gives up.
const ANSWER_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

/// What the public side counts while it runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<Answered, Counter>,
    answers: Family<Route, Histogram, fn() -> Histogram>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(ANSWER_SECONDS);
        Self { requests: Family::default(), answers: Family::new_with_constructor(histogram) }
    }
}

impl HttpMetrics {
    /// Counts a request by its route (never by its path), with the time to the head of its response.
    pub fn answered(&self, route: &'static str, status: u16, took: Duration) {
        self.answers.get_or_create(&Route { route }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { route, status }).inc();
    }
}

/// What the metrics are read from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The snapshots of the board.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The connected sessions and their counters.
    pub sessions: Arc<Sessions>,
    /// The health of the audit log and the history.
    pub journal: Journal,
    /// Wrong tokens and keys.
    pub limits: Arc<Limits>,
    /// The public connections.
    pub gate: Arc<Gate>,
    /// Whether there are metrics for each site.
    pub per_site: bool,
}

/// All metrics of the relay.
pub struct Metrics(Registry);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(…)")
    }
}

impl Metrics {
    /// The metrics from these sources.
    pub fn new(http: &HttpMetrics, sources: Sources) -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(ProcessCollector));
        let registry = all.sub_registry_with_prefix(PREFIX);
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the relay", build);
        registry.register("http_requests", "Public requests answered", http.requests.clone());
        registry.register_with_unit(
            "http_answer",
            "Time from a public request to the head of its response",
            Unit::Seconds,
            http.answers.clone(),
        );
        registry.register_collector(Box::new(RefusalsCollector(sources.clone())));
        registry.register_collector(Box::new(SitesCollector(sources)));
        Self(all)
    }

    /// The metrics as they are now, in a format.
    ///
    /// # Errors
    /// [`fmt::Error`] if a metric cannot be written, which is a fault of this program.
    pub fn render(&self, format: Format) -> Result<String, fmt::Error> {
        let mut open_metrics = String::new();
        encode(&mut open_metrics, &self.0)?;
        Ok(match format {
            Format::OpenMetrics => open_metrics,
            Format::Text => format::to_text(&open_metrics),
        })
    }
}

#[cfg(test)]
mod tests;
