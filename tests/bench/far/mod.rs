//! Measures relay and agent on a far and bad link, and nginx with the same file on the same link. Prints medians of
//! interleaved runs, and ratios. Everything is real except the link: processes, `wss`, files, the kernel's TCP. Every
//! status and every length is checked. Needs root, for network namespaces.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails has no result")]

mod download;
mod place;
mod report;
mod scenario;
mod small;

use std::{fs, path::PathBuf};

use clap::{Args, ValueEnum};
use harness::wan_link::{Settings, WanLink};
use serde_json::Value;

use self::{
    place::Place,
    report::{Report, Run},
    scenario::Scenario,
};

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How often to measure everything
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Scenarios to run [default: all]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Congestion control of TCP, such as cubic [default: that of this machine]
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
    /// File for all runs, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) {
    // From here on, every new thread and program is on the relay's side.
    let link = WanLink::enter(Settings::default(), Settings::default())
        .expect("network namespaces and TUN devices, which only root can make");
    tokio::runtime::Runtime::new().unwrap().block_on(measure(&link, arguments));
}

async fn measure(link: &WanLink, arguments: Arguments) {
    let congestion = place::prepare_tcp(link, arguments.congestion.as_deref());
    let place = Place::make(link).await;
    let scenarios: &[Scenario] =
        if arguments.only.is_empty() { Scenario::value_variants() } else { &arguments.only };
    let mut runs: Vec<Run> = Vec::new();
    for round in 1..=arguments.runs {
        for scenario in scenarios {
            for contender in scenario.contenders() {
                runs.push(scenario.run(link, &place, *contender).await);
            }
        }
        eprintln!("run {round} of {}", arguments.runs);
    }
    println!("TCP's congestion control: {congestion}\n\n{}", Report(&runs).tables());
    if let Some(file) = arguments.json {
        let runs: Vec<Value> = runs.iter().map(Run::to_json).collect();
        fs::write(file, serde_json::to_vec_pretty(&runs).unwrap()).unwrap();
    }
}
