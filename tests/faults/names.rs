//! The name server fails.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harness::process::has_code;
use harness::{
    agent::Agent,
    clock::{self, Clock},
    matrix,
    names::{NameServer, Names},
    process::PATIENCE,
    relay::Relay,
};

use crate::setting::{Setting, ms};

const NAME: &str = "relay.example.com";
/// How long the name server does not answer.
const OUTAGE: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_name_server_that_is_silent_for_an_hour_affects_only_a_tunnel_that_was_cut() {
    let factor = clock::factor(60);
    let Some(clock) = Clock::fast(factor) else { return };
    let mut setting = Setting::new(Relay::start_named(NAME).await).await;
    let Some(server) = NameServer::start(NAME, setting.relay.address.ip()).await else { return };
    let Some(names) = Names::new("", Some(&server)) else { return };
    let url = format!("wss://{NAME}:{}", setting.relay.address.port());
    let options = setting.options().by(&clock).through(url).believing(&Arc::new(names));
    let agent = Agent::start(&setting.relay, &setting.site, options).await;
    server.process.signal("STOP");
    let half = tokio::time::sleep(OUTAGE / factor / 2);
    setting.search().await;
    half.await;
    setting.search().await;
    let log = agent.process.log();
    assert!(!log.iter().any(|line| has_code(line, "tunnel.ended")), "{log:?}");
    let mark = agent.process.mark();
    setting.relay.kill().await;
    setting.relay.restart().await;
    agent.process.wait_for_after(mark, NAME).await;
    tokio::time::sleep(OUTAGE / factor / 2).await;
    assert_eq!(setting.search_status().await, 401, "the relay has seen no right token since its start");
    let tries = agent.process.log().iter().skip(mark).filter(|line| line.contains("dialling again")).count();
    let back = Instant::now();
    server.process.signal("CONT");
    while setting.search_status().await != 200 {
        assert!(back.elapsed() < 2 * PATIENCE, "{:?}", agent.process.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let back = back.elapsed() * factor;
    setting.search().await;
    // Waits grow to a minute; each attempt also waits for the name server.
    assert!((10..300).contains(&tries), "{tries}");
    setting.nothing_is_left().await;
    let promise =
        "an open tunnel stays; a lost one is dialled again within one backoff of the name server's return";
    let measured = format!(
        "{tries} attempts in half an hour; connected again {} (agent's clock) after its return",
        ms(back)
    );
    matrix::row("names", "the name server does not answer for an hour", promise, measured);
}
