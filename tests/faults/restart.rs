//! A relay is replaced by a new version under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use harness::{
    agent::CONNECTED,
    client::client_at,
    matrix,
    process::PATIENCE,
    recordings::CALL,
    relay::{Relay, Site},
};
use reqwest::Client;
use tokio::task::JoinSet;

use crate::setting::{LONG_LEN, Setting, ms};

/// Who searches meanwhile, each without a pause.
const SEARCHERS: usize = 4;
/// Who listens meanwhile, each at about [`RATE`].
const LISTENERS: usize = 3;
/// Octets in a second: a listener's browser reads ahead, but the relay is to be replaced in the middle.
const RATE: u64 = 6 << 20;
/// How often the relay is replaced.
const RESTARTS: usize = 3;

/// Searches without end, on kept connections and on new ones.
async fn keep_searching(client: &Client, site: &Site, stop: &AtomicBool) -> (usize, Vec<String>, Duration) {
    let (searches, slowest) = (AtomicUsize::new(0), std::sync::Mutex::new(Duration::ZERO));
    let failures = std::sync::Mutex::new(Vec::new());
    let searcher = async |kept: bool| {
        while !stop.load(Ordering::Relaxed) {
            let client = if kept { client.clone() } else { client_at(1) };
            let asked = Instant::now();
            let form = [("token", site.search_token.as_str()), ("callid", CALL)];
            match client.post(&site.search_url).form(&form).send().await {
                Ok(response) if response.status() == 200 => {}
                Ok(response) => failures.lock().unwrap().push(response.status().to_string()),
                Err(error) => failures.lock().unwrap().push(format!("{error:?}")),
            }
            searches.fetch_add(1, Ordering::Relaxed);
            let mut slowest = slowest.lock().unwrap();
            *slowest = slowest.max(asked.elapsed());
        }
    };
    let searchers = (0..SEARCHERS).map(|n| searcher(n % 2 == 0));
    futures_util::future::join_all(searchers).await;
    (searches.into_inner(), failures.into_inner().unwrap(), slowest.into_inner().unwrap())
}

/// Listens to the whole recording, as a browser plays: steadily.
async fn play(client: Client, link: String, expected: Arc<Vec<u8>>) {
    let response = client.get(link).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let (start, mut heard, mut body) = (Instant::now(), 0, response.bytes_stream());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.unwrap();
        assert!(chunk[..] == expected[heard..heard + chunk.len()], "a wrong octet after {heard}");
        heard += chunk.len();
        let due = Duration::from_millis(heard as u64 * 1000 / RATE);
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
    }
    assert_eq!(heard, LONG_LEN);
}

#[tokio::test]
async fn a_relay_is_replaced_under_load_and_no_search_fails_and_playback_goes_on() {
    let mut setting = Setting::new(Relay::start_activated(&[]).await).await;
    let long = Arc::new(setting.with_long());
    let agent = setting.agent().await;
    let link = setting.long_link().await;
    let mut players = JoinSet::new();
    let stop = AtomicBool::new(false);
    let (client, site) = (setting.client.clone(), setting.site.clone());
    let replacing = async {
        for _ in 0..RESTARTS {
            for _ in 0..LISTENERS {
                players.spawn(play(setting.client.clone(), link.clone(), Arc::clone(&long)));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mark = agent.process.mark();
            let mut before = setting.relay.process.take().unwrap();
            setting.relay.restart().await;
            before.terminate();
            agent.process.wait_for_after(mark, CONNECTED).await;
            assert!(before.wait().await.success());
        }
        while let Some(played) = tokio::time::timeout(PATIENCE, players.join_next()).await.unwrap() {
            played.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((searches, failures, slowest), ()) = tokio::join!(keep_searching(&client, &site, &stop), replacing);
    assert!(failures.is_empty(), "{} of {searches}: {failures:?}", failures.len());
    assert!(searches > 100, "{searches}");
    setting.nothing_is_left().await;
    let promise = "no search fails, playback goes on, by an inherited socket";
    let measured = format!(
        "0 of {searches} searches failed, slowest {}; {} of {} recordings whole and equal",
        ms(slowest),
        RESTARTS * LISTENERS,
        RESTARTS * LISTENERS,
    );
    matrix::row("relay", "replaced under load, three times", promise, measured);
}
