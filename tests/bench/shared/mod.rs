//! Measures the cost of several relays that share the sites: requests that another relay forwards, compared with
//! those that the relay with the tunnel answers; one, two and three relays behind HAProxy; and what PostgreSQL writes
//! for all that. Everything is real: processes, sockets, files. All programs and clients share the cores of this
//! machine, so only ratios can be compared, and more relays show their cost rather than their benefit.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this program prints its results")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails has no result")]

mod database;
mod known;
mod load;
mod report;
mod setting;

use std::time::Duration;

use clap::Args;
use harness::recordings::{CALL, noise, wav, write};

use self::{
    database::{Costs, Statistics},
    known::Known,
    load::{Load, download, search},
    setting::{Cost, Setting, Way},
};

/// The call of a recording that is too large for the buffers on the way.
const LONG: &str = "1711441902.18";
/// Its size in bytes.
const LONG_LEN: usize = 64 << 20;
/// Bytes of the other call's recording, which has one second.
const SHORT_LEN: usize = 16_044;
/// Clients that search at the same time, compared with one alone.
const MANY: usize = 16;
/// Clients that listen at the same time, compared with one alone.
const LISTENERS: usize = 8;
/// The numbers of relays that are compared, and the sites and searching clients of each.
const RELAYS: [usize; 3] = [1, 2, 3];
const SITES: usize = 12;
const SEARCHERS: usize = 64;

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How often to measure everything
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// The relay with the tunnel, or another one: the same work at both.
struct Pass {
    one: Load,
    many: Load,
    searching: Cost,
    single: Load,
    eight: Load,
    streaming: Cost,
}

/// This many relays under the same load.
struct Scale {
    load: Load,
    cost: Cost,
}

/// The results of one run.
#[derive(Default)]
struct Run {
    /// For each round, the relay with the tunnel and another one.
    ways: Vec<[Pass; 2]>,
    /// For each round, by the number of relays.
    scales: Vec<Vec<Scale>>,
    database: Vec<Costs>,
}

pub(crate) async fn run(arguments: Arguments) {
    let about = Duration::from_secs_f64(arguments.seconds);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), format!("in-{CALL}.wav"), &wav(1.0, 1));
    write(dir.path(), format!("in-{LONG}.mp3"), &noise(LONG_LEN, 7));
    let pair = Setting::start(2, 1, dir.path()).await;
    let ways = pair.ways().await;
    let mut scales = Vec::new();
    for relays in RELAYS {
        scales.push(Setting::start(relays, SITES, dir.path()).await);
    }
    let mut run = Run::default();
    let mut statistics = Statistics::open(pair.cluster.server.as_ref().unwrap()).await;
    for round in 1..=arguments.rounds {
        run.ways.push(both(&pair, &ways, round, about).await);
        run.scales.push(scaled(&scales, round, about).await);
        run.database.push(statistics.costs(&pair, &ways[0], dir.path(), about).await);
        eprintln!("round {round} of {}", arguments.rounds);
    }
    let mut alone = Statistics::open(scales[0].cluster.server.as_ref().unwrap()).await;
    let idle = alone.idle(Duration::from_secs(20)).await;
    let of_event = alone.of_event().await;
    let known = Known::measure(&scales[0], dir.path()).await;
    println!("{}{}", report::tables(&run, idle, of_event), report::known(known));
}

/// The same work at the relay with the tunnel and at another one; the order changes from round to round.
async fn both(setting: &Setting, ways: &[Way; 2], round: usize, about: Duration) -> [Pass; 2] {
    let first = round % 2;
    let a = pass(setting, &ways[first], about).await;
    let b = pass(setting, &ways[1 - first], about).await;
    if first == 0 { [a, b] } else { [b, a] }
}

async fn pass(setting: &Setting, way: &Way, about: Duration) -> Pass {
    let site = std::slice::from_ref(&way.site);
    let one = search(site, 1, about).await;
    let (many, searching) = setting.costing(search(site, MANY, about)).await;
    let single = download(&way.long, LONG_LEN, 1, about).await;
    let (eight, streaming) = setting.costing(download(&way.long, LONG_LEN, LISTENERS, about)).await;
    Pass { one, many, searching, single, eight, streaming }
}

/// The same load behind HAProxy on one, two and three relays, in an order that changes from round to round.
async fn scaled(settings: &[Setting], round: usize, about: Duration) -> Vec<Scale> {
    let mut measured: Vec<Option<Scale>> = settings.iter().map(|_| None).collect();
    for n in 0..settings.len() {
        let which = (n + round) % settings.len();
        let setting = &settings[which];
        let (load, cost) = setting.costing(search(&setting.sites, SEARCHERS, about)).await;
        measured[which] = Some(Scale { load, cost });
    }
    measured.into_iter().map(|scale| scale.expect("each was measured")).collect()
}
