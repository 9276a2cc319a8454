//! The programs that measure, as subcommands of one. Each prints its results; docs/benchmarks.md says what they are for.

mod abuse;
mod archive;
mod client;
mod compare;
mod far;
mod idle;
mod judge;
mod pair;
mod requests;
mod searched;
mod shared;
mod soak;

use std::{io, process::ExitCode};

use clap::Parser;
use tokio::runtime::Builder;

/// Measures AudioVault Tunnel on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
enum Measurement {
    /// Measures a good client together with bad ones.
    Abuse(abuse::Arguments),
    /// Measures searches in large archives.
    Archive(archive::Arguments),
    /// Compares AudioVault Tunnel with other tunnels. Other tunnels that are not on the PATH are skipped.
    Compare(compare::Arguments),
    /// Measures AudioVault Tunnel and plain nginx over an emulated far link.
    Far(far::Arguments),
    /// Measures idle tunnels and the return of all agents after a restart of the relay.
    Idle(idle::Arguments),
    /// Judges one guess at a secret a thousand times.
    Judge(judge::Arguments),
    /// Counts what one request costs relay and agent: instructions, allocations, system calls.
    Requests(requests::Arguments),
    /// Measures several relays that share the sites.
    Shared(shared::Arguments),
    /// Runs a relay and three agents of one site under load, and checks that nothing is wrong, lost or growing.
    Soak(soak::Arguments),
}

fn main() -> io::Result<ExitCode> {
    let all_cores = || Builder::new_multi_thread().enable_all().build();
    match Measurement::parse() {
        Measurement::Abuse(arguments) => all_cores()?.block_on(abuse::run(arguments)),
        Measurement::Archive(arguments) => all_cores()?.block_on(archive::run(arguments)),
        Measurement::Compare(arguments) => all_cores()?.block_on(compare::run(arguments)),
        // It enters network namespaces first, which every thread that starts later inherits.
        Measurement::Far(arguments) => far::run(arguments),
        Measurement::Idle(arguments) => all_cores()?.block_on(idle::run(arguments)),
        Measurement::Judge(arguments) => judge::run(arguments),
        Measurement::Requests(arguments) => all_cores()?.block_on(requests::run(arguments)),
        // Its load comes from one thread, which leaves the other cores to the relays.
        Measurement::Shared(arguments) => {
            Builder::new_current_thread().enable_all().build()?.block_on(shared::run(arguments));
        }
        Measurement::Soak(arguments) => return Ok(all_cores()?.block_on(soak::run(arguments))),
    }
    Ok(ExitCode::SUCCESS)
}
