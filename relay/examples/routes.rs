//! Measures the table of routes to peer relays: its memory per site, how quickly it is read again and looked up, and
//! how it takes the loss of a relay.
//!
//! Long steps are reported as processor time, so that other programs on the machine do not count. Short ones are
//! reported as the median and the 99th percentile of many.
//!
//! ```text
//! cargo run --profile dist -p audiovault-relay --example routes -- [--sites N]
//! ```

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has nothing to say"
)]

use std::time::{Duration, Instant as Clock};

use audiovault_protocol::identity::{signed_link::LinkKeyId, site::SiteId};
use audiovault_relay::{
    cluster::{LeaseReading, Reading, Routes},
    store::{NodeRecord, RouteChange, RouteRecord},
    tunnel::registry::AgentTarget,
};
use clap::Parser;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

/// Number of relays that hold the tunnels.
const NODES: usize = 10;
/// The name of the relay that has the table.
const OWN: &str = "own";
/// Number of tunnels that are opened and closed.
const CHANGES: usize = 100_000;

/// Measures the table of routes.
#[derive(Debug, Parser)]
struct Arguments {
    /// Sites, each with a tunnel to one of ten relays
    #[arg(long, default_value_t = 1_000_000)]
    sites: usize,
}

fn main() {
    let Arguments { sites } = Arguments::parse();
    println!("| {sites} sites, {NODES} relays | |\n|---|--:|");
    let mut routes = Routes::default();
    let now = Instant::now();
    routes.apply_leases(leases(0, 1), now, now);
    let before = resident();
    let begun = processor_time();
    let reading = read(&mut routes, sites);
    row("adding all routes", ms(processor_time() - begun));
    routes.replace(reading, OWN, Instant::now());
    assert_eq!(routes.len(), (sites, sites));
    let held = resident().saturating_sub(before);
    row("resident memory for all routes", format!("{:.1} MiB", held as f64 / f64::from(1 << 20)));
    row("for each site", format!("{:.0} bytes", held as f64 / sites as f64));
    let reading = read(&mut routes, sites);
    let begun = processor_time();
    routes.replace(reading, OWN, Instant::now());
    row("replacing them by a new reading at once", ms(processor_time() - begun));
    let reading = read(&mut routes, sites);
    replace_in_steps(&mut routes, reading);
    look_up(&mut routes, sites);
    change(&mut routes, sites);
    lose(&mut routes, sites);
}

/// Makes a reading of all routes, as if they came from the database.
fn read(routes: &mut Routes, sites: usize) -> Reading {
    routes.begin_reading();
    let mut reading = Reading::default();
    (0..sites).for_each(|number| reading.add(record(number)));
    reading
}

/// Replaces the routes with the reading in steps, as a relay does. Requests wait for one step at a time.
fn replace_in_steps(routes: &mut Routes, reading: Reading) {
    let mut steps = Vec::new();
    let begun = processor_time();
    let now = Instant::now();
    let places = routes.places(&reading, now);
    for part in reading.parts(&places) {
        let at = Clock::now();
        let before = routes.replace_part(part, OWN, now);
        steps.push(at.elapsed());
        drop(before);
    }
    routes.end_reading(&places, now);
    row("replacing them in steps, all steps together", ms(processor_time() - begun));
    row("one step, which requests wait for", quantiles(steps));
}

/// Looks up random sites that are in the table, and random sites that are not.
fn look_up(routes: &mut Routes, sites: usize) {
    let mut random = SmallRng::seed_from_u64(1);
    let nothing = times(sites, || (), |()| ());
    row("reading the clock, which is part of the next rows", quantiles(nothing));
    for (which, first) in [("present", 0), ("absent", sites)] {
        let target = || target(first + random.random_range(0..sites));
        let took = times(sites, target, |target| {
            assert_eq!(routes.find(target, &[]).is_ok(), first == 0);
        });
        row(&format!("look-up of a random {which} site"), quantiles(took));
    }
}

/// Opens second tunnels of random sites, and closes them.
fn change(routes: &mut Routes, sites: usize) {
    let mut random = SmallRng::seed_from_u64(2);
    let numbers: Vec<usize> = (0..CHANGES).map(|_| random.random_range(0..sites)).collect();
    let second =
        |number: usize| RouteRecord { session: format!("{:024x}", number + sites), ..record(number) };
    let mut opened = numbers.iter().map(|number| RouteChange::Opened(second(*number)));
    let mut closed = numbers.iter().map(|number| RouteChange::Closed {
        site: site(*number),
        session: second(*number).session,
        back_soon: true,
    });
    let changes: [(&str, &mut dyn Iterator<Item = RouteChange>); 2] =
        [("opened", &mut opened), ("closed", &mut closed)];
    for (which, changes) in changes {
        let now = Instant::now();
        let took = changes.map(|change| {
            let begun = Clock::now();
            routes.apply(change, OWN, now);
            begun.elapsed()
        });
        row(&format!("a tunnel is reported as {which}"), quantiles(took.collect()));
    }
}

/// Loses one relay again and again: its lease is missing in every other reading.
fn lose(routes: &mut Routes, sites: usize) {
    let now = Instant::now();
    let mut losses = Vec::new();
    let mut look_ups = Vec::new();
    for lease in (2..200).step_by(2) {
        let others = leases(1, lease);
        let begun = Clock::now();
        let news = routes.apply_leases(others, now, now);
        losses.push(begun.elapsed());
        assert_eq!(news.lost.len(), 1);
        let target = target(0);
        let begun = Clock::now();
        let found = routes.find(&target, &[]);
        look_ups.push(begun.elapsed());
        assert!(found.is_err() && routes.returns_by(&target, now).is_some(), "its agents are waited for");
        routes.apply_leases(leases(0, lease + 1), now, now);
    }
    row(&format!("a relay with {} tunnels is lost", sites / NODES), quantiles(losses));
    row("look-up of a site of that relay right after", quantiles(look_ups));
}

/// Times `run` for `count` values, each of which `make` prepares outside of the measured time.
fn times<T>(count: usize, mut make: impl FnMut() -> T, mut run: impl FnMut(&T)) -> Vec<Duration> {
    let one = |_| {
        let made = make();
        let begun = Clock::now();
        run(&made);
        begun.elapsed()
    };
    (0..count).map(one).collect()
}

/// Leases of all relays from the number `from` on.
fn leases(from: usize, lease_ms: i64) -> LeaseReading {
    let node = |node| NodeRecord {
        run: run(node),
        url: format!("http://10.0.0.{node}:8091"),
        lease_ms,
        lease_age: Duration::ZERO,
    };
    LeaseReading { records: (from..NODES).map(node).collect(), after_gap: false }
}

fn record(number: usize) -> RouteRecord {
    let key = LinkKeyId::try_from(format!("{number:016x}")).unwrap();
    RouteRecord { site: site(number), session: format!("{number:024x}"), run: run(number % NODES), key }
}

/// A site name of typical length.
fn site(number: usize) -> SiteId {
    SiteId::parse(&format!("customer-{number:07}")).unwrap()
}

fn run(node: usize) -> String {
    format!("{node:024x}")
}

fn target(number: usize) -> AgentTarget {
    AgentTarget { site: site(number), key: None }
}

/// The processor time of this program, which has one thread. Its resolution is a few milliseconds.
fn processor_time() -> Duration {
    let own = procfs::process::Process::myself().and_then(|own| own.schedstat()).unwrap();
    Duration::from_nanos(own.sum_exec_runtime)
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = procfs::process::Process::myself().and_then(|own| own.status()).unwrap();
    status.vmrss.expect("the kernel reports it") * 1024
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_nanos();
    format!("p50 {} ns, p99 {} ns", at(50), at(99))
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn row(name: &str, figure: impl AsRef<str>) {
    println!("| {name} | {} |", figure.as_ref());
}
