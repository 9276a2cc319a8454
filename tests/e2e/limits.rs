//! Greedy, slow and mistaken clients, and a well-behaved one that must not be affected.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
use harness::{
    address::free_address,
    agent::{Agent, AgentOptions},
    client::{body, client, client_at, first_link, search, search_with, send},
    operator::Operator,
    process::PATIENCE,
    recordings::{CALL, noise, one_recording, write},
    relay::{Relay, Site},
    slow::{Slow, idle},
};
use reqwest::Response;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

struct Place {
    relay: Relay,
    site: Site,
    dir: TempDir,
    _agent: Agent,
}

impl Place {
    async fn new(arguments: &[&str], tls: bool) -> Self {
        let relay = Relay::start_with(arguments, tls).await;
        let site = relay.add_site("acme", &[]).await;
        let dir = one_recording();
        let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
        Self { relay, site, dir, _agent: agent }
    }
}

/// What a refusal must be: problem details, with a time after which to retry.
async fn refused(response: Response, status: u16) -> u64 {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let after = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after));
    after
}

#[tokio::test]
async fn a_wrong_token_is_throttled_only_for_its_own_pair() {
    let place = Place::new(&[], false).await;
    let other = place.relay.add_site("other", &[]).await;
    let _agent = Agent::start(&place.relay, &other, AgentOptions::new(place.dir.path())).await;
    let client = client(&place.relay);
    search(&client, &place.site, CALL, &[]).await;
    let mut mistaken = place.site.clone();
    mistaken.search_token = "wrong".to_owned();
    let mut wrong = 0;
    let throttled = loop {
        let response = search_with(&client, &mistaken, CALL, &[]).await;
        if response.status() != 401 {
            break response;
        }
        wrong += 1;
    };
    assert!((10..20).contains(&wrong), "{wrong} wrong tokens were checked");
    assert!(refused(throttled, 429).await <= 6);
    // The same address can continue with the other site, and with the right token for this one.
    for site in [&other, &place.site] {
        search(&client, site, CALL, &[]).await;
    }
    search(&client_at(9), &place.site, CALL, &[]).await;
    let reported = |status: &Value| !status["refused_last_hour"]["since"].is_null();
    let status = place.relay.wait_for_status(&place.site.name, reported).await;
    assert_eq!(status["refused_last_hour"]["wrong_tokens"], wrong, "{status}");
    place.relay.add_user("maria", &["--role", "viewer"]).await;
    let maria = Operator::log_in(&place.relay, "maria").await;
    assert!(maria.page("/").await.contains(">throttled<"));
    let page = maria.page("/sites/acme").await;
    assert!(page.contains(&format!("{wrong} searches with a wrong token")), "{page}");
}

#[tokio::test]
async fn a_site_that_does_not_exist_is_throttled_and_those_that_do_are_not() {
    let place = Place::new(&[], false).await;
    let client = client(&place.relay);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let response = send(client.get(format!("{}/made-up/search", place.relay.url()))).await;
        statuses.push(response.status().as_u16());
    }
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    search(&client, &place.site, CALL, &[]).await;
}

/// Requests a tunnel as an agent does. Returns the head of the response, and the connection that holds the tunnel.
async fn request_tunnel(relay: &Relay, key: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    let request = format!(
        "GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: audiovault-tunnel.v1\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    (head(&mut stream).await, stream)
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn retry_after(head: &str) -> u64 {
    let line = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
    line.unwrap_or_else(|| panic!("a time in {head}")).parse().unwrap()
}

#[tokio::test]
async fn a_wrong_site_key_is_throttled_and_a_right_one_is_not() {
    let place = Place::new(&[], false).await;
    let foreign = place.relay.add_site("other", &[]).await.site_key;
    let wrong = foreign.replace("avk_other_", "avk_acme_");
    let mut heads = Vec::new();
    for _ in 0..12 {
        heads.push(request_tunnel(&place.relay, &wrong).await.0);
    }
    let is = |head: &String, status: &str| head.starts_with(&format!("HTTP/1.1 {status} "));
    assert!(heads.iter().any(|head| is(head, "401")), "{heads:?}");
    let throttled = heads.iter().find(|head| is(head, "429")).expect("the key is throttled");
    assert!((1..=6).contains(&retry_after(throttled)));
    let (head, _tunnel) = request_tunnel(&place.relay, &place.site.site_key).await;
    assert!(is(&head, "101"), "{head}");
}

#[tokio::test]
async fn agents_that_come_all_at_once_are_admitted_one_after_the_other() {
    let relay = Relay::start_with(&["--accept-rate", "2"], false).await;
    let site = relay.add_site("acme", &[]).await;
    let requested = join_all((0..12).map(|_| request_tunnel(&relay, &site.site_key))).await;
    let admitted = requested.iter().filter(|(head, _)| head.starts_with("HTTP/1.1 101 ")).count();
    assert!((2..6).contains(&admitted), "{admitted} were admitted");
    let mut retries: Vec<u64> = requested
        .iter()
        .filter(|(head, _)| head.starts_with("HTTP/1.1 503 "))
        .map(|(head, _)| retry_after(head))
        .collect();
    retries.sort_unstable();
    assert_eq!(admitted + retries.len(), 12);
    assert!(retries[retries.len() - 1] >= retries[0] + 2, "the times to retry are spread: {retries:?}");
    // A real agent waits for its turn and is connected.
    let dir = one_recording();
    Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
}

#[tokio::test]
async fn slow_clients_are_disconnected_while_a_good_one_is_served() {
    let plain: SocketAddr = free_address();
    let place = Place::new(&["--bind", &plain.to_string()], true).await;
    let tls = place.relay.address;
    let attacks = Slow::PLAIN.into_iter().map(|slow| (slow, plain)).chain([(Slow::Handshake, tls)]);
    let attackers = attacks
        .flat_map(|attack| std::iter::repeat_n(attack, 20))
        .map(|(slow, address)| tokio::spawn(async move { (slow, slow.run(address, "acme").await) }));
    let all = join_all(attackers.collect::<Vec<_>>());
    let mut attack = Box::pin(tokio::time::timeout(PATIENCE, all));
    let client = client(&place.relay);
    let mut searches = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut attack => break ended.expect("every slow client is cut"),
            () = async { drop(search(&client, &place.site, CALL, &[]).await) } => searches += 1,
        }
    };
    assert!(searches > 0);
    for ended in ended {
        let (slow, ended) = ended.unwrap();
        let seconds = ended.after.as_secs();
        assert!(seconds < 40, "{slow:?} was cut after {seconds} s");
        if slow == Slow::Body {
            assert!(ended.answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8(ended.answer));
        }
    }
    assert_eq!(body(send(client.get(place.relay.url())).await).await.0, 200);
}

/// Requests the landing page and keeps the connection. Returns the head of the response.
async fn ask(mut stream: TcpStream) -> (String, TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    (head(&mut stream).await, stream)
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_another_one_gets_in() {
    let place = Place::new(&["--max-client-connections", "16"], false).await;
    let greedy = async || idle(place.relay.address, IpAddr::from([127, 0, 0, 66])).await;
    let mut kept = Vec::new();
    for _ in 0..16 {
        let (head, stream) = ask(greedy().await).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        kept.push(stream);
    }
    // The seventeenth connection gets a response.
    let (head, _) = ask(greedy().await).await;
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("connection: close"), "{head}");
    assert!(retry_after(&head) > 0);
    // Two more might get a response if they sent a request; the others are closed at once.
    let more = join_all((0..10).map(|_| greedy())).await;
    let dropped = more.into_iter().map(|mut stream| async move {
        tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await.is_ok_and(|read| read.is_err())
    });
    let dropped = join_all(dropped).await.into_iter().filter(|dropped| *dropped).count();
    assert!(dropped >= 8, "{dropped} of 10 were dropped");
    search(&client(&place.relay), &place.site, CALL, &[]).await;
}

#[tokio::test]
async fn one_address_never_has_more_than_half_of_a_site() {
    let place = Place::new(&["--max-site-requests", "8"], false).await;
    write(place.dir.path(), "in-1711441902.99.wav", &noise(32 * 1024 * 1024, 1));
    let (greedy, good) = (client_at(66), client_at(67));
    let link = first_link(&search(&greedy, &place.site, "1711441902.99", &[]).await);
    let mut paused = Vec::new();
    for _ in 0..4 {
        let mut response = send(greedy.get(&link)).await;
        response.chunk().await.unwrap().unwrap();
        paused.push(response);
    }
    refused(send(greedy.get(&link)).await, 429).await;
    search(&good, &place.site, CALL, &[]).await;
    for _ in 0..4 {
        let mut response = send(good.get(&link)).await;
        response.chunk().await.unwrap().unwrap();
        paused.push(response);
    }
    refused(send(client_at(68).get(&link)).await, 503).await;
    paused.clear();
    place.relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 0).await;
    search(&greedy, &place.site, CALL, &[]).await;
}
