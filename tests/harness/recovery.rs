//! Measures a restart after a crash: a relay is killed and started again, its agents dial with their own backoff, and
//! the sites that are back are searched meanwhile.

use std::{
    fmt::{self, Display},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    client::{client, search},
    fleet::{Connected, Fleet},
    recordings::CALL,
    relay::{Relay, Site},
};

/// The time between two searches.
const SEARCH_EVERY: Duration = Duration::from_millis(10);
/// How long the run waits for all agents before it fails: far longer than the aim.
const PATIENCE: Duration = Duration::from_secs(600);

/// The result of a run.
#[derive(Debug)]
pub struct Recovery {
    /// How long the relay was down.
    down: Duration,
    /// For each agent, the time from the start of the relay until the agent was welcomed, in order.
    back: Vec<Duration>,
    /// The durations of the searches in that time, in order.
    searches: Vec<Duration>,
}

impl Recovery {
    /// Kills the relay, starts it again after `down`, and waits until all agents are back.
    pub async fn measure(relay: &mut Relay, sites: &[Site], agents: &Fleet, down: Duration) -> Self {
        relay.kill().await;
        agents.all_gone().await;
        tokio::time::sleep(down).await;
        let connected = Connected::default();
        let mut followed = agents.follow(&connected);
        let began = Instant::now();
        relay.restart().await;
        let searcher = Searcher::start(client(relay), sites.to_vec(), connected.clone());
        let all = async { while followed.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, all).await.expect("all agents come back");
        let searches = searcher.stop();
        let mut back: Vec<_> = connected.so_far().into_iter().map(|(_, at)| at - began).collect();
        back.sort_unstable();
        Self { down, back, searches }
    }

    /// The time from the start of the relay until the last agent was welcomed.
    pub fn took(&self) -> Duration {
        self.back.last().copied().unwrap_or_default()
    }

    /// The slowest search of a connected site in that time, in milliseconds.
    pub fn slowest_search(&self) -> f64 {
        percentile(&self.searches, 100)
    }

    /// The number of agents that were back after each second.
    fn curve(&self) -> Vec<usize> {
        let seconds = self.took().as_secs() + 1;
        let back_by = |second| self.back.partition_point(|back| *back <= Duration::from_secs(second));
        (1..=seconds).map(back_by).collect()
    }

    /// The number of agents that came back in the busiest second.
    pub fn busiest_second(&self) -> usize {
        let within = |from: &Duration| {
            let end = *from + Duration::from_secs(1);
            self.back.partition_point(|back| *back < end) - self.back.partition_point(|back| back < from)
        };
        self.back.iter().map(within).max().unwrap_or_default()
    }

    /// The searches of connected sites in that time: their number, and p50, p99 and maximum in milliseconds.
    pub fn searches(&self) -> (usize, [f64; 3]) {
        (self.searches.len(), [50, 99, 100].map(|percent| percentile(&self.searches, percent)))
    }

    /// The figures as JSON.
    pub fn json(&self) -> Value {
        let (count, [p50, p99, max]) = self.searches();
        json!({
            "down_s": self.down.as_secs(),
            "all_back_s": self.took().as_secs_f64(),
            "back_after_each_second": self.curve(),
            "searches": { "count": count, "p50_ms": p50, "p99_ms": p99, "max_ms": max },
        })
    }
}

/// The curve as a table, and the searches.
impl Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let away = self.down.as_secs();
        writeln!(
            f,
            "\nThe relay was down for {away} s. Agents connected again, by seconds after its start:"
        )?;
        writeln!(f, "\n| s | agents |\n|--:|--:|")?;
        for (second, agents) in (1..).zip(self.curve()) {
            writeln!(f, "| {second} | {agents} |")?;
        }
        let (count, [p50, p99, max]) = self.searches();
        writeln!(
            f,
            "\n{count} searches of connected sites during this time: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"
        )
    }
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let last = times.len().saturating_sub(1);
    times.get(last * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// Searches sites that are connected, one after the other. It has a thread and a runtime of its own, so that its times
/// do not depend on how busy the agents' runtime is.
struct Searcher {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Searcher {
    fn start(client: Client, sites: Vec<Site>, connected: Connected) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(searches(&client, &sites, &connected, &stop))
        });
        Self { enough, thread }
    }

    /// Stops the searches. Returns their durations, in order.
    fn stop(self) -> Vec<Duration> {
        self.enough.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().expect("every search is answered");
        times.sort_unstable();
        times
    }
}

async fn searches(
    client: &Client,
    sites: &[Site],
    connected: &Connected,
    stop: &AtomicBool,
) -> Vec<Duration> {
    let (mut random, mut times) = (SmallRng::seed_from_u64(1), Vec::new());
    let mut ticks = tokio::time::interval(SEARCH_EVERY);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let there = connected.so_far();
        if there.is_empty() {
            continue;
        }
        let (agent, _) = there[random.random_range(0..there.len())];
        let began = Instant::now();
        search(client, &sites[agent], CALL, &[]).await;
        times.push(began.elapsed());
    }
    times
}
