//! The clock of a machine jumps, for example when it is set after a long time.

use harness::process::has_code;
use harness::{agent::Agent, client::send, clock::Clock, matrix, process::Process, relay::Relay};

use crate::setting::Setting;

const JUMPS: [&str; 4] = ["+1d", "-1d", "+400d", "+0"];
const FAULT: &str = "clock jumps ahead by a day, back, and ahead by 400 days";

/// Searches while the clock jumps. Returns how many.
async fn search_across_jumps(setting: &Setting, clock: &Clock) -> usize {
    for offset in JUMPS {
        clock.set(offset);
        for _ in 0..3 {
            setting.search().await;
        }
    }
    JUMPS.len() * 3
}

fn assert_no_tunnel_ended(agent: &Process, mark: usize) {
    let log = agent.log().split_off(mark);
    assert!(!log.iter().any(|line| has_code(line, "tunnel.ended")), "{log:?}");
}

#[tokio::test]
async fn an_agents_clock_that_jumps_costs_no_tunnel_and_no_search() {
    let Some(clock) = Clock::right() else { return };
    let setting = Setting::new(Relay::start().await).await;
    let agent = Agent::start(&setting.relay, &setting.site, setting.options().by(&clock)).await;
    setting.search().await;
    let mark = agent.process.mark();
    let searches = search_across_jumps(&setting, &clock).await;
    let link = setting.short_link().await;
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    clock.set("+3h");
    assert_eq!(send(setting.client.get(&link)).await.status(), 410, "links live for two hours");
    clock.set("+0");
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    assert_no_tunnel_ended(&agent.process, mark);
    setting.nothing_is_left().await;
    let promise = "no tunnel ends, no search fails; links expire by the agent's clock";
    matrix::row("agent", FAULT, promise, format!("0 of {searches} searches failed"));
}

#[tokio::test]
async fn a_relays_clock_that_jumps_costs_no_tunnel_and_no_search() {
    let Some(clock) = Clock::right() else { return };
    let setting = Setting::new(Relay::start_by(&clock).await).await;
    let agent = setting.agent().await;
    setting.search().await;
    let link = setting.short_link().await;
    let mark = agent.process.mark();
    let searches = search_across_jumps(&setting, &clock).await;
    assert_eq!(send(setting.client.get(&link)).await.status(), 200);
    assert_no_tunnel_ended(&agent.process, mark);
    assert!(setting.relay.status("acme").await["state"] == "up");
    setting.nothing_is_left().await;
    let promise = "no tunnel ends, no search fails; links work again when the clock is right";
    matrix::row("relay", FAULT, promise, format!("0 of {searches} searches failed"));
}
