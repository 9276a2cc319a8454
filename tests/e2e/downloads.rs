//! Downloads through the tunnel, compared byte for byte with the file on the disk.

use std::time::{Duration, Instant};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, first_link, search, send},
    recordings::{noise, one_recording, wav, write},
    relay::{Relay, Site},
};
use reqwest::{Client, Method, Response};
use tempfile::TempDir;

const CALL: &str = "1711441902.17";

struct Player {
    relay: Relay,
    _agent: Agent,
    dir: TempDir,
    client: Client,
    site: Site,
    link: String,
    content: Vec<u8>,
}

impl Player {
    async fn new(relay: Relay, content: Vec<u8>) -> Self {
        let site = relay.add_site("acme", &[]).await;
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "in-1711441902.17.wav", &content);
        let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
        let client = client(&relay);
        let link = first_link(&search(&client, &site, CALL, &[]).await);
        Self { relay, _agent: agent, dir, client, site, link, content }
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Response {
        let request = self.client.get(&self.link);
        send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    async fn range(&self, range: &str) -> (u16, Option<String>, Vec<u8>) {
        let response = self.get(&[("range", range)]).await;
        let content_range =
            response.headers().get("content-range").map(|value| value.to_str().unwrap().to_owned());
        let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let (status, bytes) = body(response).await;
        assert_eq!(bytes.len(), length, "{range}");
        (status, content_range, bytes)
    }
}

async fn ranges_are_exact(relay: Relay) {
    let player = Player::new(relay, noise(1_000_003, 1)).await;
    let len = player.content.len();
    let whole = player.get(&[]).await;
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(body(whole).await, (200, player.content.clone()));
    let cases = [
        ("bytes=0-0", 0..1),
        ("bytes=0-99", 0..100),
        ("bytes=1-", 1..len),
        ("bytes=999999-1000002", 999_999..len),
        ("bytes=500000-99999999", 500_000..len),
        ("bytes=-1", len - 1..len),
        ("bytes=-300000", len - 300_000..len),
        ("bytes=-99999999", 0..len),
        ("bytes=32754-32756", 32_754..32_757),
    ];
    for (range, expected) in cases {
        let (status, content_range, bytes) = player.range(range).await;
        let said = format!("bytes {}-{}/{len}", expected.start, expected.end - 1);
        assert_eq!((status, content_range.as_deref()), (206, Some(said.as_str())), "{range}");
        assert!(bytes == player.content[expected], "{range} brought other bytes");
    }
    let unsatisfiable = player.get(&[("range", "bytes=1000003-")]).await;
    assert_eq!(unsatisfiable.status(), 416);
    assert_eq!(unsatisfiable.headers()["content-range"], format!("bytes */{len}").as_str());
    for ignored in ["bytes=5-1", "lines=1-2", "bytes=a-b", "bytes=0-1,5-9"] {
        assert_eq!(player.get(&[("range", ignored)]).await.status(), 200, "{ignored}");
    }
}

#[tokio::test]
async fn ranges_are_exact_over_ws() {
    ranges_are_exact(Relay::start().await).await;
}

#[tokio::test]
async fn ranges_are_exact_over_wss() {
    ranges_are_exact(Relay::start_tls().await).await;
}

#[tokio::test]
async fn conditions_hold() {
    let player = Player::new(Relay::start().await, noise(5_000, 2)).await;
    let response = player.get(&[]).await;
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    let modified = response.headers()["last-modified"].to_str().unwrap().to_owned();
    assert!(etag.starts_with('"'), "a strong ETag: {etag}");
    let long_ago = "Sun, 06 Nov 1994 08:49:37 GMT";
    let range = ("range", "bytes=0-9");
    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[("if-none-match", &etag)], 304),
        (&[("if-none-match", "\"other\"")], 200),
        (&[("if-modified-since", &modified)], 304),
        (&[("if-modified-since", long_ago)], 200),
        (&[("if-none-match", "\"other\""), ("if-modified-since", &modified)], 200),
        (&[("if-match", &etag)], 200),
        (&[("if-match", "\"other\"")], 412),
        (&[("if-unmodified-since", long_ago)], 412),
        (&[range, ("if-range", &etag)], 206),
        (&[range, ("if-range", "\"other\"")], 200),
        (&[range, ("if-range", &modified)], 206),
        (&[range, ("if-range", long_ago)], 200),
    ];
    for (headers, status) in cases {
        assert_eq!(player.get(headers).await.status(), *status, "{headers:?}");
    }
    write(player.dir.path(), "in-1711441902.17.wav", &noise(5_001, 3));
    assert_eq!(player.get(&[range, ("if-range", &etag)]).await.status(), 200, "the file has changed");
}

#[tokio::test]
async fn answers_are_private_and_name_the_file() {
    let player = Player::new(Relay::start().await, wav(1.0, 1)).await;
    let response = player.get(&[]).await;
    for (name, value) in [
        ("cache-control", "private, no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-robots-tag", "noindex"),
        ("content-security-policy", "sandbox"),
        ("content-type", "audio/wav"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    assert!(response.headers().get("content-encoding").is_none());
    let inline = response.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(inline.starts_with("inline") && inline.contains("in-1711441902.17.wav"), "{inline}");
    let download = send(player.client.get(format!("{}?download=1", player.link))).await;
    assert!(download.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
}

#[tokio::test]
async fn head_returns_the_length_without_a_body_and_other_methods_are_refused() {
    let player = Player::new(Relay::start().await, wav(1.0, 1)).await;
    let head = send(player.client.head(&player.link)).await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], player.content.len().to_string().as_str());
    let ranged = send(player.client.head(&player.link).header("range", "bytes=0-9")).await;
    assert!(matches!(ranged.status().as_u16(), 200 | 206), "RFC 9110 defines ranges only for GET");
    assert_eq!(send(player.client.post(&player.link)).await.status(), 405);
    assert_eq!(send(player.client.request(Method::DELETE, &player.link)).await.status(), 405);
}

#[tokio::test]
async fn a_deleted_file_is_gone() {
    let player = Player::new(Relay::start().await, wav(1.0, 1)).await;
    std::fs::remove_file(player.dir.path().join("in-1711441902.17.wav")).unwrap();
    assert_eq!(player.get(&[]).await.status(), 404);
}

#[tokio::test]
async fn a_file_that_shrinks_under_way_is_cut_and_never_complete() {
    let player = Player::new(Relay::start().await, noise(64 * 1024 * 1024, 4)).await;
    let mut response = player.get(&[]).await;
    response.chunk().await.unwrap().unwrap();
    let file =
        std::fs::File::options().write(true).open(player.dir.path().join("in-1711441902.17.wav")).unwrap();
    file.set_len(1_000_000).unwrap();
    let mut error = None;
    while error.is_none() {
        match response.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut body looked complete"),
            Err(cut) => error = Some(cut),
        }
    }
    // The next search and the next download work as usual.
    let found = search(&player.client, &player.site, CALL, &[]).await;
    assert_eq!(body(send(player.client.get(first_link(&found))).await).await.1.len(), 1_000_000);
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_agent() {
    let player = Player::new(Relay::start().await, noise(64 * 1024 * 1024, 5)).await;
    let mut response = player.get(&[]).await;
    response.chunk().await.unwrap().unwrap();
    let busy = |status: &serde_json::Value| status["sessions"][0]["open_streams"] == 1;
    player.relay.wait_for_status("acme", busy).await;
    drop(response);
    player.relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 0).await;
}

#[tokio::test]
async fn playback_keeps_to_its_rate_and_searches_do_not_wait_behind_it() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let long = noise(400_000, 5);
    write(dir.path(), "in-1711441902.18.mp3", &long);
    let options = AgentOptions::new(dir.path()).with(&["--max-rate", "1Mbit", "--connections", "2"]);
    let _agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, "1711441902.18", &[]).await);
    let began = Instant::now();
    let downloads = [send(client.get(&link)), send(client.get(&link))];
    let [first, second] = futures_util::future::join_all(downloads).await.try_into().unwrap();
    for _ in 0..20 {
        search(&client, &site, CALL, &[]).await;
    }
    let searched = began.elapsed();
    let (first, second) = tokio::join!(body(first), body(second));
    assert!(first == (200, long.clone()) && second == (200, long));
    // 800,000 bytes need 6.4 s of uplink; a burst of 0.25 s may be sent at once.
    let took = began.elapsed();
    assert!(took > Duration::from_secs(6), "{took:?}");
    assert!(searched < took, "searches were answered in the middle of it");
}
