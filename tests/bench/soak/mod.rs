//! A site under load for as long as wanted: agents start and stop, are killed and suspended, and relays are killed,
//! while searches and downloads continue. Every delivered byte is compared with the recording; memory, descriptors,
//! threads and times are drawn as a picture.

#![expect(clippy::print_stdout, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, reason = "a soak test that fails itself has no result")]

mod chart;
mod churn;
mod load;
mod samples;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use harness::relay::Relay;

use self::{
    churn::{Churn, Programs},
    load::{Load, Recordings, Tally},
    samples::Samples,
};

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Minutes of the test
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// Clients that search at the same time, each ten times per second
    #[arg(long, default_value_t = 4)]
    searchers: usize,

    /// Clients that listen at the same time
    #[arg(long, default_value_t = 6)]
    listeners: usize,

    /// Seconds between two faults
    #[arg(long, default_value_t = 10.0)]
    every: f64,

    /// File for the picture
    #[arg(long, value_name = "FILE", default_value = "soak.svg")]
    svg: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    let (tally, samples, events) = measure(&arguments).await;
    chart::draw(&samples, &arguments.svg).unwrap();
    println!("{}", tally.table(&events));
    println!("{}", samples.table());
    println!("the picture is {}", arguments.svg.display());
    if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The whole test: what was delivered, the resources of the programs, and the faults.
async fn measure(arguments: &Arguments) -> (Arc<Tally>, Samples, churn::Events) {
    let lasts = Duration::from_secs_f64(arguments.minutes * 60.0);
    let recordings = Recordings::make();
    let mut programs = Programs::start(Relay::start_tls().await, &recordings).await;
    let load = Load::start(&programs, recordings, [arguments.searchers, arguments.listeners]).await;
    let tally = load.tally();
    let mut churn = Churn::new(Duration::from_secs_f64(arguments.every));
    let mut samples = Samples::default();
    let end = tokio::time::Instant::now() + lasts;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while tokio::time::Instant::now() < end {
        ticks.tick().await;
        samples.take(&programs, &tally);
        churn.tick(&mut programs).await;
    }
    load.stop().await;
    (tally, samples, churn.events())
}
