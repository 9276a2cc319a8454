//! The network itself is bad: packets are lost, late, out of order, at a low rate, or blocked.

use std::{
    convert::identity,
    net::SocketAddr,
    time::{Duration, Instant},
};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, search, send},
    clock::{self, Clock},
    matrix,
    process::PATIENCE,
    recordings::CALL,
    relay::Relay,
    wan_link::{Direction, RELAY, Settings, WanLink},
};

use crate::setting::{Setting, ms};

const MS: Duration = Duration::from_millis(1);
/// How long the network is down in the test of a blackout.
const BLACKOUT: Duration = Duration::from_secs(10);
/// Longest time of a search after that, in the median; and what a busy machine may need once.
const BACK_WITHIN: Duration = Duration::from_millis(1_500);
const BACK_AT_WORST: Duration = Duration::from_secs(8);
/// The recording that is sent over every bad network.
const RECORDING_LEN: usize = 300_000;

/// A site behind a bad network.
async fn behind(wire: &WanLink, also: impl FnOnce(AgentOptions) -> AgentOptions) -> (Setting, Agent) {
    let setting = Setting::new(Relay::start_at(SocketAddr::new(RELAY, 7443)).await).await;
    let options = also(setting.options().inside(wire.site()));
    let agent = Agent::start(&setting.relay, &setting.site, options).await;
    (setting, agent)
}

/// Whether no data passes in either direction.
fn set_down(down: bool, wire: &WanLink) {
    for way in [Direction::Up, Direction::Down] {
        wire.change(way, |settings| settings.down = down);
    }
}

/// Blocks the network for this long. Returns how long after that a search is answered.
async fn blackout(wire: &WanLink, setting: &Setting, lasts: Duration) -> Duration {
    setting.search().await;
    set_down(true, wire);
    tokio::time::sleep(lasts).await;
    set_down(false, wire);
    let back = Instant::now();
    // The relay closes connections that are idle for ten seconds, which is as long as this.
    search(&client(&setting.relay), &setting.site, CALL, &[]).await;
    back.elapsed()
}

#[tokio::test]
async fn searches_are_answered_soon_after_a_blackout_of_ten_seconds() {
    let each_way = Settings { delay: 10 * MS, ..Settings::default() };
    let Some(wire) = WanLink::enter(each_way, each_way) else { return };
    let (setting, _agent) = behind(&wire, identity).await;
    let times = if matrix::is_long() { 10 } else { 2 };
    let mut back = Vec::new();
    for _ in 0..times {
        back.push(blackout(&wire, &setting, BLACKOUT).await);
    }
    back.sort();
    let (median, worst) = (back[(times - 1) / 2], back[times - 1]);
    assert!(median < BACK_AT_WORST, "{back:?}");
    setting.nothing_is_left().await;
    let promise = format!("searches answered within {} of its return, median of ten", ms(BACK_WITHIN));
    let measured = format!("median of {times}: {}, slowest {}", ms(median), ms(worst));
    matrix::row("network", "10 s blackout", &promise, measured);
}

#[tokio::test]
async fn a_site_comes_back_by_itself_after_a_blackout_of_ten_minutes() {
    let factor = clock::factor(60);
    let Some(clock) = Clock::fast(factor) else { return };
    let Some(wire) = WanLink::enter(Settings::default(), Settings::default()) else { return };
    let (setting, _agent) = behind(&wire, |options| options.by(&clock)).await;
    set_down(true, &wire);
    tokio::time::sleep(Duration::from_secs(600) / factor).await;
    set_down(false, &wire);
    let back = Instant::now();
    while setting.search_status().await != 200 {
        assert!(back.elapsed() < 2 * PATIENCE, "{:?}", back.elapsed());
        tokio::time::sleep(10 * MS).await;
    }
    setting.nothing_is_left().await;
    let promise = "connected again within one backoff, at most 60 s";
    let measured = format!("connected again after {} (agent's clock)", ms(back.elapsed() * factor));
    matrix::row("network", "10 min blackout", promise, measured);
}

/// Searches and a download over a bad network, complete and identical.
async fn over(fault: &str, up: Settings, down: Settings) {
    let Some(wire) = WanLink::enter(up, down) else { return };
    let (setting, _agent) = behind(&wire, identity).await;
    let recording = setting.with_recording(RECORDING_LEN);
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let asked = Instant::now();
        setting.search().await;
        slowest = slowest.max(asked.elapsed());
    }
    let (link, asked) = (setting.long_link().await, Instant::now());
    assert_eq!(body(send(setting.client.get(&link)).await).await, (200, recording));
    let (took, kilobytes) = (asked.elapsed(), RECORDING_LEN / 1000);
    setting.nothing_is_left().await;
    let promise = "every search answered, recordings complete and identical";
    let measured = format!("slowest of 10 searches {}, {kilobytes} kB in {}", ms(slowest), ms(took));
    matrix::row("network", fault, promise, measured);
}

#[tokio::test]
async fn a_wire_that_loses_one_packet_in_twenty_carries_everything() {
    let lossy = Settings::new(40 * MS, 20_000_000).losing(0.05);
    over("5 % loss, 40 ms", lossy, lossy).await;
}

#[tokio::test]
async fn a_wire_over_a_satellite_carries_everything() {
    let far = Settings { jitter: 50 * MS, ..Settings::new(300 * MS, 10_000_000) };
    over("300 ms round trip, up to 50 ms of jitter each way", far, far).await;
}

#[tokio::test]
async fn a_wire_of_few_bits_carries_everything() {
    let narrow = Settings::new(60 * MS, 256_000);
    over("256 kbit/s", narrow, narrow).await;
}

#[tokio::test]
async fn a_wire_that_confuses_packets_carries_everything() {
    let confused = Settings { reorder: 0.1, ..Settings::new(40 * MS, 20_000_000) };
    over("one packet in ten out of order", confused, confused).await;
}
