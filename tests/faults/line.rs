//! The connection between agent and relay fails.

use std::time::{Duration, Instant};

use harness::process::has_code;
use harness::{
    agent::CONNECTED,
    bad_link::{BadLink, Line},
    matrix,
    relay::Relay,
};

use crate::setting::{Setting, ms};

/// Longest time of a search while a dead connection is detected and replaced: three seconds of silence, a second
/// until the next attempt, and a reserve for a busy machine.
const FOUND_OUT: Duration = Duration::from_secs(12);

#[tokio::test]
async fn a_line_that_is_cut_costs_no_search() {
    let setting = Setting::new(Relay::start_tls().await).await;
    let line = BadLink::to(&setting.relay).await;
    let agent = setting.agent_behind(&line).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let mark = agent.process.mark();
        line.cut();
        let asked = Instant::now();
        setting.search().await;
        slowest = slowest.max(asked.elapsed());
        agent.process.wait_for_code_after(mark, CONNECTED).await;
    }
    setting.nothing_is_left().await;
    let promise = "no search fails; searches wait for the agent";
    matrix::row(
        "connection",
        "cut, three times in a row",
        promise,
        format!("0 failed, slowest {}", ms(slowest)),
    );
}

/// Breaks an open connection in the given way. Returns how long the next search took.
async fn half_open(fault: Line) -> Duration {
    let setting = Setting::new(Relay::start_tls().await).await;
    let line = BadLink::to(&setting.relay).await;
    let agent = setting.agent_behind(&line).await;
    setting.search().await;
    let mark = agent.process.mark();
    line.set_living(fault);
    let asked = Instant::now();
    setting.search().await;
    let took = asked.elapsed();
    agent.process.wait_for_code_after(mark, "tunnel.replaced").await;
    // The relay has closed the old tunnel; no message about that can reach it any more.
    let one = |status: &serde_json::Value| status["sessions"].as_array().is_some_and(|all| all.len() == 1);
    setting.relay.wait_for_status("acme", one).await;
    setting.nothing_is_left().await;
    took
}

#[tokio::test]
async fn a_half_open_line_is_found_out_and_the_search_that_waits_is_answered() {
    let took = half_open(Line::Dead).await;
    assert!(took < FOUND_OUT, "{took:?}");
    let promise = "a second tunnel is dialled, and the waiting search is answered through it";
    matrix::row("connection", "half open: connections stay open, no data passes", promise, ms(took));
}

#[tokio::test]
async fn a_line_that_carries_one_way_only_is_found_out_for_both_ways() {
    let (up, down) = tokio::join!(half_open(Line::DeadUpwards), half_open(Line::DeadDownwards));
    assert!(up < FOUND_OUT && down < FOUND_OUT, "{up:?}, {down:?}");
    let promise = "the same as when no data passes";
    let measured = format!("nothing to the relay: {}; nothing to the agent: {}", ms(up), ms(down));
    matrix::row("connection", "data passes in one direction only", promise, measured);
}

#[tokio::test]
async fn a_line_that_was_dead_for_a_moment_keeps_its_tunnel() {
    let setting = Setting::new(Relay::start_tls().await).await;
    let line = BadLink::to(&setting.relay).await;
    let agent = setting.agent_behind(&line).await;
    setting.search().await;
    let mark = agent.process.mark();
    line.set(Line::Dead);
    agent.process.wait_for_code_after(mark, "tunnel.silent").await;
    line.set(Line::Sound);
    setting.search().await;
    let log = agent.process.log().split_off(mark);
    let lost = |line: &String| has_code(line, "tunnel.ended");
    assert!(!log.iter().any(lost), "{log:?}");
    setting.nothing_is_left().await;
    matrix::row(
        "connection",
        "dead for 3 s",
        "no search fails, at most one tunnel is replaced",
        "as promised",
    );
}
