//! The requests to the relays: searches and downloads, each checked.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all};
use harness::{client::search_with, cluster::client, recordings::CALL, relay::Site};
use reqwest::Client;

/// The result.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// How long each request took, to the end of its body.
    pub(crate) times: Vec<Duration>,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
}

impl Load {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// MiB received.
    pub(crate) fn mebibytes(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 20)
    }

    /// MiB per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.mebibytes() / self.elapsed.as_secs_f64()
    }

    /// A percentile in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = times.len().saturating_sub(1) * percent / 100;
        times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

/// This many clients that search without a pause, on kept connections, each at one of the sites.
pub(crate) async fn search(sites: &[Site], searchers: usize, about: Duration) -> Load {
    search_slowly(sites, searchers, about, Duration::ZERO).await
}

/// Like [`search`], with a pause between the searches of each client.
pub(crate) async fn search_slowly(
    sites: &[Site],
    searchers: usize,
    about: Duration,
    pause: Duration,
) -> Load {
    let client = &client();
    let searchers = sites.iter().cycle().take(searchers).map(|site| {
        repeat(about, async move || {
            let answer = search_with(client, site, CALL, &[]).await;
            assert_eq!(answer.status(), 200);
            let bytes = answer.bytes().await.expect("a whole answer").len() as u64;
            (bytes, pause)
        })
    });
    gather(searchers).await
}

/// This many downloads at the same time, one after the other.
pub(crate) async fn download(link: &str, len: usize, at_once: usize, about: Duration) -> Load {
    let client = client();
    let listeners =
        (0..at_once).map(|_| repeat(about, async || (take(&client, link, len as u64).await, Duration::ZERO)));
    gather(listeners).await
}

async fn take(client: &Client, link: &str, len: u64) -> u64 {
    let answer = client.get(link).send().await.expect("the relay answers");
    assert_eq!(answer.status(), 200);
    let (mut taken, mut body) = (0, answer.bytes_stream());
    while let Some(chunk) = body.next().await {
        taken += chunk.expect("a whole body").len() as u64;
    }
    assert_eq!(taken, len, "the whole recording");
    taken
}

/// Sends requests until the time is over; each request returns its bytes and the pause after it.
async fn repeat(about: Duration, ask: impl AsyncFn() -> (u64, Duration)) -> Load {
    let (begun, mut load) = (Instant::now(), Load::default());
    while begun.elapsed() < about {
        let asked = Instant::now();
        let (bytes, pause) = ask().await;
        load.times.push(asked.elapsed());
        load.bytes += bytes;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    load
}

async fn gather(all: impl Iterator<Item = impl Future<Output = Load>>) -> Load {
    let begun = Instant::now();
    let mut sum = Load::default();
    for load in join_all(all).await {
        sum.times.extend(load.times);
        sum.bytes += load.bytes;
    }
    sum.elapsed = begun.elapsed();
    sum
}
