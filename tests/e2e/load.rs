//! Many downloads at once: each gets the right bytes, and a slow listener delays no other.

use futures_util::future::join_all;
use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, first_link, search, send},
    recordings::{noise, write},
    relay::Relay,
};
use sha2::{Digest, Sha256};

async fn sixty_four_downloads(relay: Relay) {
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let sums: Vec<_> = (0..64u64)
        .map(|n| {
            let content = noise(100_000 + 37_013 * usize::try_from(n).unwrap(), n + 1);
            write(dir.path(), format!("in-1711441902.{n}.wav"), &content);
            Sha256::digest(&content)
        })
        .collect();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let downloads = (0..64).map(|n| {
        let (client, site) = (&client, &site);
        async move {
            let found = search(client, site, &format!("1711441902.{n}"), &[]).await;
            let (status, bytes) = body(send(client.get(first_link(&found))).await).await;
            assert_eq!(status, 200);
            Sha256::digest(&bytes)
        }
    });
    assert!(join_all(downloads).await == sums);
    relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 0).await;
}

#[tokio::test]
async fn sixty_four_downloads_at_once_are_all_right_over_ws() {
    sixty_four_downloads(Relay::start().await).await;
}

#[tokio::test]
async fn sixty_four_downloads_at_once_are_all_right_over_wss() {
    sixty_four_downloads(Relay::start_tls().await).await;
}

#[tokio::test]
async fn paused_listeners_delay_no_search() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let content = noise(64 * 1024 * 1024, 1);
    write(dir.path(), "in-1711441902.17.wav", &content);
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, "1711441902.17", &[]).await);
    let mut paused = Vec::new();
    for _ in 0..20 {
        let mut response = send(client.get(&link)).await;
        response.chunk().await.unwrap().unwrap();
        paused.push(response);
    }
    relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 20).await;
    for _ in 0..50 {
        search(&client, &site, "1711441902.17", &[]).await;
    }
    // A listener who continues after the pause gets the complete rest.
    let mut resumed = paused.pop().unwrap();
    let mut bytes = 0;
    while let Some(chunk) = resumed.chunk().await.unwrap() {
        bytes += chunk.len();
    }
    assert!(bytes > content.len() - 4 * 1024 * 1024 && bytes < content.len());
}
