//! The audit log of deliveries is complete: it has everything that a client received, after the kill of any program.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    client::{client, first_link, search},
    process::{PATIENCE, run},
    recordings::{noise, write},
    relay::{Relay, Site},
};
use rand::RngExt;
use reqwest::Client;
use tokio::sync::{RwLock, Semaphore};

/// Requests in all, in five rounds; in the middle of each round except the last one, a program is killed.
const REQUESTS: usize = 1000;
const ROUNDS: usize = 5;
/// Requests at a time.
const AT_A_TIME: usize = 24;
const SIZES: [(&str, usize); 3] =
    [("1711441902.11", 40_000), ("1711441902.12", 1_500_000), ("1711441902.13", 12_000_000)];

/// What a client received of one response.
#[derive(Debug)]
struct Received {
    request_id: String,
    start: u64,
    bytes: u64,
    whole: bool,
}

/// The responses that have begun. Each client holds the gate until its response begins; closing the gate waits for
/// all of them.
#[derive(Default)]
struct Begun {
    gate: RwLock<()>,
    ids: Mutex<Vec<String>>,
}

/// Requests a random range of a random recording, and reads all of it, a part of it, or all of it slowly.
async fn listen(client: Client, links: Arc<Vec<String>>, begun: Arc<Begun>) -> Option<Received> {
    let (link, size) = {
        let which = rand::rng().random_range(0..SIZES.len());
        (links[which].clone(), SIZES[which].1 as u64)
    };
    let start = rand::rng().random_range(0..size);
    let patience = match rand::rng().random_range(0..3) {
        0 => u64::MAX,
        _ => rand::rng().random_range(0..size - start + 1),
    };
    let slow = rand::rng().random_ratio(1, 5);
    let open = begun.gate.read().await;
    let response = client.get(link).header("range", format!("bytes={start}-")).send().await.ok()?;
    if response.status() != 206 {
        return None;
    }
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    begun.ids.lock().unwrap().push(request_id.clone());
    drop(open);
    let (mut bytes, mut whole) = (0, false);
    let mut body = response.bytes_stream();
    while bytes < patience {
        match body.next().await {
            Some(Ok(chunk)) => bytes += chunk.len() as u64,
            Some(Err(_)) => break,
            None => {
                whole = true;
                break;
            }
        }
        if slow {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Some(Received { request_id, start, bytes, whole: whole && bytes == size - start })
}

/// The audit log, by request id.
async fn record(relay: &Relay) -> HashMap<String, Vec<String>> {
    let database = relay.database();
    let (code, out, err) = run("audiovault-relay", &["audit", "export", "--database", &database], &[]).await;
    assert_eq!(code, 0, "{err}");
    let lines = out.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    lines.map(|cells| (cells[17].clone(), cells)).collect()
}

/// Waits until the audit log has every response that has begun, in its final state.
async fn wait_for_rows(relay: &Relay, begun: &Begun, wanted: impl Fn(&[String]) -> bool) {
    let written = async {
        loop {
            let record = record(relay).await;
            let ids = begun.ids.lock().unwrap().clone();
            if ids.iter().all(|id| record.get(id).is_some_and(|row| wanted(row))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
}

fn options(dir: &Path, secret: &Path) -> AgentOptions {
    AgentOptions::new(dir).with(&["--link-secret-file", &secret.display().to_string()])
}

async fn links(client: &Client, site: &Site) -> Arc<Vec<String>> {
    let mut links = Vec::new();
    for (call, _) in SIZES {
        links.push(first_link(&search(client, site, call, &[]).await));
    }
    Arc::new(links)
}

#[tokio::test]
async fn every_byte_that_a_client_received_is_in_the_audit_log_after_any_kill() {
    let mut relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    for (seed, (call, size)) in (1..).zip(SIZES) {
        write(dir.path(), format!("out-{call}.mp3"), &noise(size, seed));
    }
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("link.secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let mut agent = Agent::start(&relay, &site, options(dir.path(), &secret)).await;
    let links = links(&client(&relay), &site).await;

    let (mut all, begun) = (Vec::new(), Arc::<Begun>::default());
    for round in 0..ROUNDS {
        let room = Arc::new(Semaphore::new(AT_A_TIME));
        let client = client(&relay);
        let listeners: Vec<_> = (0..REQUESTS / ROUNDS)
            .map(|_| {
                let (room, client, links) = (Arc::clone(&room), client.clone(), Arc::clone(&links));
                let begun = Arc::clone(&begun);
                tokio::spawn(async move {
                    let _place = room.acquire_owned().await.unwrap();
                    listen(client, links, begun).await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        match round {
            0 | 2 => {
                agent.process.kill().await;
                agent = Agent::start(&relay, &site, options(dir.path(), &secret)).await;
            }
            1 | 3 => {
                // No response begins now: what began in the last milliseconds before a kill may be missing in the
                // audit log.
                let shut = begun.gate.write().await;
                wait_for_rows(&relay, &begun, |_| true).await;
                let mark = agent.process.mark();
                relay.kill().await;
                begun.ids.lock().unwrap().clear();
                // The rest of the round does not wait: it fails at once while the relay is down.
                drop(shut);
                relay.restart().await;
                agent.process.wait_for_code_after(mark, CONNECTED).await;
            }
            _ => {}
        }
        for listener in listeners {
            all.extend(listener.await.unwrap());
        }
    }
    wait_for_rows(&relay, &begun, |row| !row[1].is_empty()).await;
    check(&all, &record(&relay).await);
}

fn check(all: &[Received], record: &HashMap<String, Vec<String>>) {
    let mut whole = 0;
    for received in all.iter().filter(|received| received.bytes > 0) {
        let row = record
            .get(&received.request_id)
            .unwrap_or_else(|| panic!("{received:?} is not in the audit log"));
        let number = |column: usize| row[column].parse::<u64>().unwrap();
        let (start, bytes) = (number(13), number(14));
        assert_eq!(start, received.start, "{row:?}");
        if row[1].is_empty() {
            // The end was not written down: the row says "at least".
            continue;
        }
        assert!(received.bytes <= bytes, "{received:?} is more than {row:?}");
        if received.whole {
            assert!(bytes == received.bytes && row[11] == "complete", "{received:?} is not {row:?}");
            whole += 1;
        }
    }
    assert!(whole > 50, "only {whole} of {} answers were taken whole", all.len());
}
