//! All agents connect at once: the relay was killed and is started again.

use std::time::Duration;

use harness::{
    fleet::{Connected, Fleet, import},
    matrix,
    process::PATIENCE,
    recordings::one_recording,
    recovery::Recovery,
    relay::Relay,
};

use crate::setting::ms;

/// Agents in this process, each with its own site, connection and backoff.
const AGENTS: usize = 2_000;
/// Agents that the relay admits per second by default, and how many it admits at first.
const ACCEPT_RATE: usize = 100;
/// The longest time that an agent waits before it dials again.
const FULL_BACKOFF: Duration = Duration::from_secs(60);
/// The slowest allowed search of a connected site during this time, when agents, relay and clients share two cores
/// with other tests.
const AT_WORST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn all_of_two_thousand_agents_come_back_at_the_rate_that_the_relay_admits() {
    let room = (AGENTS + 1_000).to_string();
    let mut relay =
        Relay::start_with(&["--max-connections", &room, "--max-client-connections", &room], false).await;
    let dir = one_recording();
    let sites = import(&relay, dir.path(), AGENTS).await;
    let agents = Fleet::start(&relay, &sites, dir.path());
    let mut followed = agents.follow(&Connected::default());
    let all = async { while followed.join_next().await.is_some() {} };
    tokio::time::timeout(5 * PATIENCE, all).await.expect("all agents connect");

    let recovery = Recovery::measure(&mut relay, &sites, &agents, Duration::ZERO).await;
    let (took, (searches, [_, p99, max])) = (recovery.took(), recovery.searches());
    let ramp = Duration::from_secs((AGENTS / ACCEPT_RATE) as u64);
    assert!(took < ramp + FULL_BACKOFF, "{recovery}");
    // An agent that is admitted at the end of a second may get its WELCOME in the next.
    assert!(recovery.busiest_second() <= 3 * ACCEPT_RATE, "{recovery}");
    assert!(Duration::from_secs_f64(max / 1000.0) < AT_WORST, "{recovery}");
    let promise = format!(
        "all back within {} s, {ACCEPT_RATE} admitted in a second, searches of connected sites continue",
        (ramp + FULL_BACKOFF).as_secs()
    );
    let measured = format!(
        "all back after {}, at most {} in a second; {searches} searches meanwhile, p99 {p99:.0} ms, slowest {max:.0} ms",
        ms(took),
        recovery.busiest_second(),
    );
    matrix::row("relay", "killed and started again under 2,000 agents", &promise, measured);
    matrix::figure(&recovery.to_string());
}
