//! A proxy between agent and relay that closes idle connections, or is killed.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use harness::process::has_code;
use harness::{
    address::free_address,
    agent::{Agent, CONNECTED},
    client::send,
    clock::{self, Clock},
    matrix,
    nginx::Nginx,
    relay::Relay,
};

use crate::setting::{LONG_LEN, Setting, ms};

/// Time without a search, by the clock of the programs.
const IDLE: Duration = Duration::from_secs(600);

/// The configuration of nginx: close connections on which nothing was sent for this many seconds.
fn location(relay: &Relay, idle: u64) -> String {
    format!(
        "proxy_pass http://{}; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Host $host;
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";
         proxy_read_timeout {idle}s; proxy_send_timeout {idle}s;",
        relay.address
    )
}

/// Leaves a tunnel idle for ten minutes behind a proxy that closes connections after this many idle seconds. Returns
/// how many tunnels ended, and how long the next search took in real time; `None` if a program is not installed.
async fn left_alone(idle: u64) -> Option<(usize, Duration)> {
    // A minute takes two seconds.
    let factor = clock::factor(30);
    let clock = Clock::fast(factor)?;
    let setting = Setting::new(Relay::start_by(&clock).await).await;
    let words = clock.words();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let nginx = Nginx::start_at(free_address(), &words, &location(&setting.relay, idle), "").await?;
    let options = setting.options().by(&clock).through(format!("ws://{}", nginx.address));
    let agent = Agent::start(&setting.relay, &setting.site, options).await;
    setting.search().await;
    tokio::time::sleep(IDLE / factor).await;
    let asked = Instant::now();
    setting.search().await;
    let took = asked.elapsed();
    let ended = agent.process.log().iter().filter(|line| has_code(line, "tunnel.ended")).count();
    Some((ended, took))
}

#[tokio::test]
async fn a_proxy_that_closes_what_is_idle_for_a_minute_never_sees_an_idle_tunnel() {
    let Some((ended, took)) = left_alone(60).await else { return };
    assert_eq!(ended, 0);
    let promise = "pings keep the tunnel open (ten minutes without a search)";
    matrix::row(
        "proxy",
        "closes idle WebSockets after 60 s",
        promise,
        format!("kept open; a search then took {}", ms(took)),
    );
}

#[tokio::test]
async fn a_proxy_that_closes_too_soon_costs_no_search() {
    let Some((ended, took)) = left_alone(5).await else { return };
    assert!(ended > 3, "{ended}");
    let promise = "the agent connects again by itself, the next search waits for it";
    let measured = format!("closed {ended} times in ten minutes; a search then took {}", ms(took));
    matrix::row("proxy", "closes WebSockets that are idle for 5 s", promise, measured);
}

#[tokio::test]
async fn a_proxy_that_is_killed_during_a_download_causes_only_a_pause() {
    let setting = Setting::new(Relay::start().await).await;
    let recording = setting.with_long();
    let (address, location) = (free_address(), location(&setting.relay, 60));
    let Some(nginx) = Nginx::start_at(address, &[], &location, "").await else { return };
    let agent =
        Agent::start(&setting.relay, &setting.site, setting.options().through(format!("ws://{address}")));
    let agent = agent.await;
    let response = send(setting.client.get(setting.long_link().await)).await;
    assert_eq!(response.status(), 200);
    let mut body = response.bytes_stream();
    let mut received = body.next().await.unwrap().unwrap().to_vec();
    let mark = agent.process.mark();
    // Its worker holds the connections, and ends with it.
    drop(nginx);
    agent.process.wait_for_code_after(mark, "tunnel.ended").await;
    let died = Instant::now();
    let Some(_nginx) = Nginx::start_at(address, &[], &location, "").await else { return };
    let (searched, ()) = tokio::join!(setting.search_status(), async {
        agent.process.wait_for_code_after(mark, CONNECTED).await;
    });
    assert_eq!(searched, 200);
    let pause = died.elapsed();
    while let Some(chunk) = body.next().await {
        received.extend_from_slice(&chunk.unwrap());
    }
    assert!(received.len() == LONG_LEN && received == recording);
    setting.nothing_is_left().await;
    let promise = "the download continues by itself, byte for byte; searches wait until the proxy is back";
    matrix::row(
        "proxy",
        "killed during a download",
        promise,
        format!("complete and identical, back after {}", ms(pause)),
    );
}
