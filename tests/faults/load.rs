//! Load while something fails: searches without end, and listeners who play.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use harness::{client::client_at, recordings::CALL, relay::Site};
use reqwest::Client;

/// Clients that search without a pause.
const SEARCHERS: usize = 4;
/// Bytes per second: a browser reads ahead, but the fault must happen in the middle.
pub(crate) const RATE: u64 = 6 << 20;

/// The results of searches.
pub(crate) struct Searches {
    pub(crate) asked: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) slowest: Duration,
}

/// Searches until stopped, on kept connections and on new ones.
pub(crate) async fn keep_searching(client: &Client, site: &Site, stop: &AtomicBool) -> Searches {
    let (asked, slowest) = (AtomicUsize::new(0), std::sync::Mutex::new(Duration::ZERO));
    let failures = std::sync::Mutex::new(Vec::new());
    let searcher = async |kept: bool| {
        while !stop.load(Ordering::Relaxed) {
            let client = if kept { client.clone() } else { client_at(1) };
            let begun = Instant::now();
            let form = [("token", site.search_token.as_str()), ("callid", CALL)];
            match client.post(&site.search_url).form(&form).send().await {
                Ok(response) if response.status() == 200 => {}
                Ok(response) => {
                    let failure = text_of(response).await;
                    failures.lock().unwrap().push(failure);
                }
                Err(error) => failures.lock().unwrap().push(format!("{error:?}")),
            }
            asked.fetch_add(1, Ordering::Relaxed);
            let mut slowest = slowest.lock().unwrap();
            *slowest = slowest.max(begun.elapsed());
        }
    };
    let searchers = (0..SEARCHERS).map(|n| searcher(n % 2 == 0));
    futures_util::future::join_all(searchers).await;
    Searches {
        asked: asked.into_inner(),
        failures: failures.into_inner().unwrap(),
        slowest: slowest.into_inner().unwrap(),
    }
}

async fn text_of(response: reqwest::Response) -> String {
    let status = response.status();
    format!("{status}: {}", response.text().await.unwrap_or_default())
}

/// Listens to the whole recording at a steady rate, as a browser plays.
pub(crate) async fn play(client: Client, link: String, expected: Arc<Vec<u8>>) {
    let response = client.get(link).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let start = Instant::now();
    let mut received = 0;
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk[..] == expected[received..received + chunk.len()], "a wrong byte after {received}");
        received += chunk.len();
        let due = Duration::from_millis(received as u64 * 1000 / RATE);
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
    }
    assert_eq!(received, expected.len());
}
