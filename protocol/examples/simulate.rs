//! Lives through many histories of the simulated pair, or tells one of them.
//!
//! ```text
//! cargo run --release -p audiovault-protocol --example simulate -- [--seeds N] [--from N]
//! cargo run --release -p audiovault-protocol --example simulate -- --seed N --trace
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to whoever called it")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use audiovault_protocol::testing::simulation::{Figures, simulate};

const USAGE: &str = "usage: simulate [--seeds N] [--from N] | --seed N [--trace]";

struct Arguments {
    from: u64,
    seeds: u64,
    trace: bool,
}

impl Arguments {
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut read = Self { from: 0, seeds: 10_000, trace: false };
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next()?.parse().ok();
            match argument.as_str() {
                "--seeds" => read.seeds = number()?,
                "--from" => read.from = number()?,
                "--seed" => (read.from, read.seeds) = (number()?, 1),
                "--trace" => read.trace = true,
                _ => return None,
            }
        }
        Some(read)
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let began = now();
    let (mut figures, mut findings) = (Figures::default(), 0_u64);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        match live(seed, arguments.trace) {
            Ok(came_to) => figures += came_to,
            Err(finding) => {
                findings += 1;
                println!("seed {seed}: {finding}");
            }
        }
    }
    report(&arguments, &figures, findings, now() - began);
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a seed came to; a failed assertion of the crate is a finding like others.
fn live(seed: u64, traced: bool) -> Result<Figures, String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        simulate(seed, &mut |at, what| {
            if traced {
                println!("{:>14.6} s  {what}", at.as_secs_f64());
            }
        })
    }));
    match lived {
        Ok(lived) => lived.map_err(|finding| finding.to_string()),
        Err(_) => Err("panicked".to_owned()),
    }
}

fn report(arguments: &Arguments, figures: &Figures, findings: u64, took: Duration) {
    let hours = figures.simulated.as_secs_f64() / 3600.0;
    println!(
        "| seeds | simulated | real | steps | tunnels | taken over | calls | complete | cut | asked again | octets | findings |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    println!(
        "| {} | {hours:.1} h | {:.1} s | {} | {} | {} | {} | {} | {} | {} | {} | {findings} |",
        arguments.seeds,
        took.as_secs_f64(),
        figures.steps,
        figures.tunnels,
        figures.taken_over,
        figures.calls,
        figures.complete,
        figures.cut,
        figures.asked_again,
        figures.octets
    );
}

#[expect(clippy::disallowed_methods, reason = "only to tell how long it took")]
fn now() -> Instant {
    Instant::now()
}
