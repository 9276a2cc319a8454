//! Measures what idle tunnels cost: memory of the relay for each tunnel and of an agent. Also measures how all agents
//! come back when the relay is killed and started again, and how that affects searches. Relay and one agent are
//! processes; the many agents are the agent's own code in this process, over real sockets and real TLS.
//!
//! The handshakes of the many agents use this machine too: on few cores they are the main reason why a search waits.

#![expect(clippy::print_stdout, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]
#![expect(clippy::expect_used, reason = "a measurement that fails has no result")]

mod memory;

use std::{fs, path::PathBuf, time::Duration};

use clap::Args;
use harness::{
    agent::{Agent, AgentOptions},
    client::{client, search},
    fleet::{Connected, Fleet, import},
    process::PATIENCE,
    recordings::{CALL, one_recording},
    recovery::Recovery,
    relay::Relay,
};
use serde_json::{Value, json};

use self::memory::{Memory, kib, mib};

/// Aims: memory of the relay for each tunnel, and of an agent; the slowest search; the longest backoff of an agent.
const PER_TUNNEL: u64 = 24 * 1024;
const PER_AGENT: u64 = 8 * 1024 * 1024;
const SLOWEST_SEARCH_MS: f64 = 100.0;
const FULL_BACKOFF: Duration = Duration::from_secs(60);

/// What a relay admits per second by default.
const ACCEPT_RATE: u32 = 100;

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Tunnels
    #[arg(long, default_value_t = 2000)]
    tunnels: usize,
    /// Seconds of idle time before memory is measured; longer than agents wait between STATUS frames
    #[arg(long, default_value_t = 35)]
    settle: u64,
    /// Seconds for which the relay is down, one run for each
    #[arg(long, value_delimiter = ',', default_value = "0,30")]
    down: Vec<u64>,
    /// File for all results, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) {
    let dir = one_recording();
    let room = (arguments.tunnels + 1000).to_string();
    let limits = ["--max-connections", &room, "--max-client-connections", &room];
    let rate = ["--accept-rate", &ACCEPT_RATE.to_string()];
    let mut relay = Relay::start_with(&[&limits[..], &rate].concat(), true).await;
    let sites = import(&relay, dir.path(), arguments.tunnels + 1).await;
    let (own, sites) = sites.split_first().unwrap();
    // What is allocated once, with the first tunnel and the first search, does not count for any tunnel.
    let agent = Agent::start(&relay, own, AgentOptions::new(dir.path())).await;
    search(&client(&relay), own, CALL, &[]).await;
    tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    let before = Memory::of(relay.process());

    let (agents, connected) = (Fleet::start(&relay, sites, dir.path()), Connected::default());
    let mut followed = agents.follow(&connected);
    let all = async { while followed.join_next().await.is_some() {} };
    tokio::time::timeout(10 * PATIENCE, all).await.expect("all agents connect");
    tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    let after = Memory::of(relay.process());
    let of_agent = Memory::of(&agent.process);
    print_memory(arguments.tunnels, &before, &after, &of_agent);

    let mut recoveries = Vec::new();
    for down in arguments.down {
        let recovery = Recovery::measure(&mut relay, sites, &agents, Duration::from_secs(down)).await;
        println!("{recovery}");
        recoveries.push(recovery);
        // After a tunnel that has lasted, its agent starts again with the shortest backoff.
        tokio::time::sleep(Duration::from_secs(arguments.settle)).await;
    }
    let again = Memory::of(relay.process());
    print_aims(arguments.tunnels, per(&before, &after, arguments.tunnels), of_agent, &recoveries);
    if let Some(file) = arguments.json {
        let recoveries: Vec<Value> = recoveries.iter().map(Recovery::json).collect();
        let figures = json!({
            "tunnels": arguments.tunnels,
            "relay": { "before": before.json(), "after": after.json(), "at_the_end": again.json() },
            "agent": of_agent.json(),
            "recoveries": recoveries,
        });
        fs::write(file, format!("{figures:#}\n")).unwrap();
    }
}

/// Resident bytes that each tunnel added.
fn per(before: &Memory, after: &Memory, tunnels: usize) -> u64 {
    after.resident.saturating_sub(before.resident) / tunnels as u64
}

fn print_memory(tunnels: usize, before: &Memory, after: &Memory, agent: &Memory) {
    println!("\n| memory | resident | proportional | private | at most |\n|---|--:|--:|--:|--:|");
    let all = |of: &Memory| [of.resident, of.proportional, of.private, of.most].map(mib);
    for (name, of) in [
        ("relay with one tunnel, MiB", all(before)),
        (&format!("relay with {} tunnels, MiB", tunnels + 1), all(after)),
        ("agent, MiB", all(agent)),
    ] {
        let [resident, proportional, private, most] = of;
        println!("| {name} | {resident:.1} | {proportional:.1} | {private:.1} | {most:.1} |");
    }
    let each = |of: fn(&Memory) -> u64| kib(of(after).saturating_sub(of(before))) / tunnels as f64;
    println!(
        "| relay for each tunnel, KiB | {:.1} | {:.1} | {:.1} | {:.1} |",
        each(|of| of.resident),
        each(|of| of.proportional),
        each(|of| of.private),
        each(|of| of.most)
    );
}

fn print_aims(tunnels: usize, per_tunnel: u64, agent: Memory, recoveries: &[Recovery]) {
    let ramp = Duration::from_secs_f64(tunnels as f64 / f64::from(ACCEPT_RATE)) + FULL_BACKOFF;
    let verdict = |reached: bool| if reached { "reached" } else { "missed" };
    println!("\n| aim | measured | |\n|---|--:|---|");
    println!(
        "| at most {:.0} KiB for an idle tunnel at the relay | {:.1} KiB | {} |",
        kib(PER_TUNNEL),
        kib(per_tunnel),
        verdict(per_tunnel <= PER_TUNNEL)
    );
    println!(
        "| at most {:.0} MiB for an idle agent | {:.1} MiB | {} |",
        mib(PER_AGENT),
        mib(agent.resident),
        verdict(agent.resident <= PER_AGENT)
    );
    for recovery in recoveries {
        let (took, slowest) = (recovery.took(), recovery.slowest_search());
        println!(
            "| all back within the ramp and one full backoff, {:.0} s | {:.1} s | {} |",
            ramp.as_secs_f64(),
            took.as_secs_f64(),
            verdict(took <= ramp)
        );
        println!(
            "| no search of a connected site over {SLOWEST_SEARCH_MS:.0} ms | {slowest:.1} ms | {} |",
            verdict(slowest <= SLOWEST_SEARCH_MS)
        );
    }
}
