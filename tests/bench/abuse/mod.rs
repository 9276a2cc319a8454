//! Measures how slow and greedy clients affect a well-behaved one: the time of its searches, without load and under
//! attack, on one machine in one run. Everything is real: relay, agent, sockets.
//!
//! The attackers themselves use the machine too, which on few cores is most of the difference.

#![expect(clippy::print_stdout, reason = "this program prints its results")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::Args;
use harness::{
    address::free_address,
    agent::{Agent, AgentOptions},
    client::{client_at, search},
    recordings::{CALL, one_recording},
    relay::{Certificate, Relay, Site},
    slow::Slow,
};
use reqwest::Client;
use tokio::{task::JoinSet, time::MissedTickBehavior};

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Seconds for each measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Slow clients of each kind
    #[arg(long, default_value_t = 100)]
    slow: usize,
    /// Requests per second of the flood: wrong tokens and made-up sites
    #[arg(long, default_value_t = 500)]
    rate: u32,
}

/// The times of many searches, in order.
struct Times(Vec<Duration>);

impl Times {
    /// Searches one after the other for this many seconds; each must be answered.
    async fn measure(client: &Client, site: &Site, seconds: u64) -> Self {
        let (end, mut times) = (Instant::now() + Duration::from_secs(seconds), Vec::new());
        while Instant::now() < end {
            let start = Instant::now();
            search(client, site, CALL, &[]).await;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Self(times)
    }

    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100].as_secs_f64() * 1000.0
    }

    fn print(&self, name: &str, calm: &Self) {
        let [p50, p99] = [50, 99].map(|percent| self.percentile(percent));
        println!(
            "{name:<10} {:>6} searches  p50 {p50:>6.2} ms  p99 {p99:>6.2} ms  p99 to p99 without load {:>5.2}",
            self.0.len(),
            p99 / calm.percentile(99)
        );
    }
}

/// Slow clients of all kinds; a client that is disconnected starts again.
fn slow_attack(plain: SocketAddr, tls: SocketAddr, each: usize) -> JoinSet<()> {
    let kinds = Slow::PLAIN.map(|slow| (slow, plain)).into_iter().chain([(Slow::Handshake, tls)]);
    let attackers = kinds.flat_map(|kind| std::iter::repeat_n(kind, each));
    let attackers = attackers.map(|(slow, address)| async move {
        loop {
            slow.run(address, "acme").await;
        }
    });
    attackers.collect()
}

/// Wrong tokens and made-up sites at a constant rate, from one address.
fn flood(relay: &Relay, site: &Site, rate: u32) -> JoinSet<()> {
    let (client, right, relay) = (client_at(66), site.search_url.clone(), relay.url());
    let mut attack = JoinSet::new();
    attack.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        for n in 0u64.. {
            ticks.tick().await;
            let url = if n % 2 == 0 { right.clone() } else { format!("{relay}/made-up-{n}/search") };
            under_way.spawn(client.post(url).form(&[("token", "wrong"), ("callid", CALL)]).send());
            while under_way.try_join_next().is_some() {}
        }
    });
    attack
}

pub(crate) async fn run(arguments: Arguments) {
    let (dir, tls) = (one_recording(), free_address());
    // The TLS listener is for the clients with a slow handshake.
    let certificate = Certificate::make(dir.path(), &["localhost"]);
    let [cert, key] = [&certificate.certificate, &certificate.key].map(|path| path.display().to_string());
    let more = ["--tls-bind", &tls.to_string(), "--tls-cert", &cert, "--tls-key", &key];
    let relay = Relay::start_with(&more, false).await;
    let site = relay.add_site("acme", &[]).await;
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let good = client_at(2);

    Times::measure(&good, &site, 1).await;
    let calm = Times::measure(&good, &site, arguments.seconds).await;
    calm.print("no load", &calm);
    let attack = slow_attack(relay.address, tls, arguments.slow);
    tokio::time::sleep(Duration::from_secs(1)).await;
    Times::measure(&good, &site, arguments.seconds).await.print("slow", &calm);
    drop(attack);
    let attack = flood(&relay, &site, arguments.rate);
    tokio::time::sleep(Duration::from_secs(1)).await;
    Times::measure(&good, &site, arguments.seconds).await.print("flood", &calm);
    drop(attack);
    Times::measure(&good, &site, arguments.seconds).await.print("no load 2", &calm);
}
