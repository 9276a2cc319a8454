//! From runs to tables.

use std::{fmt::Write, time::Duration};

use clap::ValueEnum;
use harness::median::median;
use serde_json::{Value, json};

use crate::far::{place::Contender, scenario::Scenario, small::Times};

/// The aim: this share of nginx's speed.
const SPEED_AIM: f64 = 0.95;
/// The aim: a search during a download takes at most this much longer than a round trip, in milliseconds.
const SEARCH_AIM: f64 = 150.0;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) contender: Contender,
    pub(crate) outcome: Outcome,
}

/// Its result.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Whole files.
    Download {
        bytes: u64,
        took: Duration,
    },
    Small(Times),
}

impl Run {
    /// MB per second; of the download during the small requests, if there were any.
    fn megabytes(&self) -> f64 {
        match &self.outcome {
            Outcome::Download { bytes, took } => *bytes as f64 / 1e6 / took.as_secs_f64(),
            Outcome::Small(times) => times.download / 1e6,
        }
    }

    /// A percentile of the requests without load and of those during a download, in milliseconds.
    fn percentiles(&self, percent: usize) -> [f64; 2] {
        match &self.outcome {
            Outcome::Download { .. } => [f64::NAN; 2],
            Outcome::Small(times) => [&times.calm, &times.beside].map(|times| percentile(times, percent)),
        }
    }

    /// All results, for other programs.
    pub(crate) fn to_json(&self) -> Value {
        let ([calm50, beside50], [calm99, beside99]) = (self.percentiles(50), self.percentiles(99));
        json!({
            "scenario": format!("{:?}", self.scenario),
            "contender": self.contender.name(),
            "megabytes_per_second": self.megabytes(),
            "calm_p50_ms": calm50,
            "calm_p99_ms": calm99,
            "beside_p50_ms": beside50,
            "beside_p99_ms": beside99,
        })
    }
}

/// All runs.
pub(crate) struct Report<'a>(pub(crate) &'a [Run]);

impl Report<'_> {
    /// Two tables as Markdown: one of downloads, and one of small requests.
    pub(crate) fn tables(&self) -> String {
        let mut downloads = "| | | MB/s | of nginx | aim | |\n|---|---|---|---|---|---|\n".to_owned();
        let mut small = "| | | calm p50, p99 ms | beside p50, p99 ms | the download's kB/s | aim | |\n\
                         |---|---|---|---|---|---|---|\n"
            .to_owned();
        for scenario in Scenario::value_variants() {
            for contender in scenario.contenders() {
                let own = self.of(*scenario, *contender);
                match own.first().map(|run| &run.outcome) {
                    None => {}
                    Some(Outcome::Download { .. }) => {
                        self.download_row(&mut downloads, *scenario, *contender)
                    }
                    Some(Outcome::Small(_)) => self.small_row(&mut small, *scenario, *contender),
                }
            }
        }
        format!("{downloads}\n{small}")
    }

    fn of(&self, scenario: Scenario, contender: Contender) -> Vec<&Run> {
        self.0.iter().filter(|run| run.scenario == scenario && run.contender == contender).collect()
    }

    fn median(&self, scenario: Scenario, contender: Contender, show: impl Fn(&Run) -> f64) -> f64 {
        median(self.of(scenario, contender).into_iter().map(show))
    }

    fn download_row(&self, table: &mut String, scenario: Scenario, contender: Contender) {
        let own = self.median(scenario, contender, Run::megabytes);
        let ratio = own / self.median(scenario, Contender::Nginx, Run::megabytes);
        let (title, name) = (scenario.title(), contender.name());
        let rest = match contender {
            Contender::Nginx => "| | |".to_owned(),
            Contender::Ours(_) => format!("{ratio:.3} | ≥ {SPEED_AIM} | {} |", mark(ratio >= SPEED_AIM)),
        };
        let _ = writeln!(table, "| {title} | {name} | {own:.1} | {rest}");
    }

    fn small_row(&self, table: &mut String, scenario: Scenario, contender: Contender) {
        let figure =
            |percent, which: usize| self.median(scenario, contender, |run| run.percentiles(percent)[which]);
        let aim = SEARCH_AIM + scenario.round_trip().as_secs_f64() * 1e3;
        let rest = match contender {
            Contender::Nginx => "| |".to_owned(),
            Contender::Ours(_) => format!("p99 ≤ {aim:.0} | {} |", mark(figure(99, 1) <= aim)),
        };
        let _ = writeln!(
            table,
            "| {} | {} | {:.0}, {:.0} | {:.0}, {:.0} | {:.0} | {rest}",
            scenario.title(),
            contender.name(),
            figure(50, 0),
            figure(99, 0),
            figure(50, 1),
            figure(99, 1),
            self.median(scenario, contender, Run::megabytes) * 1e3,
        );
    }
}

fn mark(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * percent / 100;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
