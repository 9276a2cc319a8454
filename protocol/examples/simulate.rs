//! Simulates many histories of random faults, or prints one of them: of the pure multiplexers, and of the link's real
//! drivers on a simulated clock.
//!
//! ```text
//! cargo run --release -p audiovault-protocol --example simulate -- [--only mux|link] [--seeds N] [--from N]
//! cargo run --release -p audiovault-protocol --example simulate -- --only mux|link --seed N --trace
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints its results")]

use std::{
    fmt::Arguments,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use audiovault_protocol::testing::simulation::{Figures, Finding, link, simulate};

const USAGE: &str = "usage: simulate [--only mux|link] ([--seeds N] [--from N] | --seed N [--trace])";

type Simulate = fn(u64, &mut dyn FnMut(Duration, Arguments<'_>)) -> Result<Figures, Finding>;

const SIMULATIONS: [(&str, Simulate); 2] = [("mux", simulate), ("link", link::simulate)];

struct Options {
    only: Option<String>,
    from: u64,
    seeds: u64,
    trace: bool,
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut read = Self { only: None, from: 0, seeds: 10_000, trace: false };
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next()?.parse().ok();
            match argument.as_str() {
                "--seeds" => read.seeds = number()?,
                "--from" => read.from = number()?,
                "--seed" => (read.from, read.seeds) = (number()?, 1),
                "--only" => read.only = Some(arguments.next()?),
                "--trace" => read.trace = true,
                _ => return None,
            }
        }
        Some(read)
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| only == name);
    let chosen: Vec<_> = SIMULATIONS.into_iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let findings: u64 = chosen.into_iter().map(|(name, simulate)| run(name, simulate, &options)).sum();
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Simulates all seeds of one simulation. Returns how many of them have a finding.
fn run(name: &str, simulate: Simulate, options: &Options) -> u64 {
    let began = now();
    let mut figures = Figures::default();
    let mut findings = 0_u64;
    for seed in options.from..options.from.saturating_add(options.seeds) {
        match live(simulate, seed, options.trace) {
            Ok(came_to) => figures += came_to,
            Err(finding) => {
                findings += 1;
                println!("{name}, seed {seed}: {finding}");
            }
        }
    }
    report((name, options), &figures, findings, now() - began);
    findings
}

/// Simulates one seed. A failed assertion of the crate is a finding like others.
fn live(simulate: Simulate, seed: u64, traced: bool) -> Result<Figures, String> {
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

fn report((name, options): (&str, &Options), figures: &Figures, findings: u64, took: Duration) {
    let hours = figures.simulated.as_secs_f64() / 3600.0;
    println!(
        "| | seeds | simulated | real | steps | tunnels | taken over | calls | complete | cut | asked again | bytes | findings |"
    );
    println!("|--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    println!(
        "| {name} | {} | {hours:.1} h | {:.1} s | {} | {} | {} | {} | {} | {} | {} | {} | {findings} |",
        options.seeds,
        took.as_secs_f64(),
        figures.steps,
        figures.tunnels,
        figures.taken_over,
        figures.calls,
        figures.complete,
        figures.cut,
        figures.asked_again,
        figures.bytes
    );
}

#[expect(clippy::disallowed_methods, reason = "only to report how long it took")]
fn now() -> Instant {
    Instant::now()
}
