//! Agents and relays stop, are killed, or are suspended.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use harness::{
    agent::{Agent, CONNECTED},
    agent_audit_log::AgentAuditLog,
    client::send,
    matrix,
    relay::Relay,
};

use crate::setting::{LONG, Setting, ms};

/// Searches while an agent dies.
const SEARCHES: usize = 1_000;
/// Searches at a time.
const AT_A_TIME: usize = 8;

/// Sends this many searches. Returns how many failed, and the slowest time.
async fn ask(setting: &Setting, searches: usize, mut at_half: impl AsyncFnMut()) -> (usize, Duration) {
    let (mut failed, mut slowest) = (0, Duration::ZERO);
    let ask = |_| async {
        let asked = Instant::now();
        (setting.search_status().await, asked.elapsed())
    };
    let mut answers = stream::iter(0..searches).map(ask).buffer_unordered(AT_A_TIME).enumerate();
    while let Some((n, (status, took))) = answers.next().await {
        failed += usize::from(status != 200);
        slowest = slowest.max(took);
        if n == searches / 2 {
            at_half().await;
        }
    }
    (failed, slowest)
}

#[tokio::test]
async fn one_of_two_agents_is_killed_during_a_thousand_searches_and_no_search_fails() {
    let setting = Setting::new(Relay::start().await).await;
    let (first, second) = (setting.agent().await, setting.agent().await);
    let mut first = Some(first);
    let (failed, slowest) = ask(&setting, SEARCHES, async || {
        first.take().unwrap().process.kill().await;
    })
    .await;
    assert_eq!(failed, 0);
    drop(second);
    setting.nothing_is_left().await;
    let promise = "no search fails: the relay asks the other agent if the first does not answer";
    let measured = format!("{failed} of {SEARCHES} failed, slowest {}", ms(slowest));
    matrix::row("agent", "one of two killed (SIGKILL)", promise, measured);
}

#[tokio::test]
async fn a_delivery_of_a_killed_agent_is_in_the_audit_log() {
    let setting = Setting::new(Relay::start().await).await;
    setting.with_long();
    let records = tempfile::tempdir().unwrap();
    let record = AgentAuditLog::in_directory(records.path());
    let start = async || {
        let options = setting.options().with(&record.flag());
        Agent::start(&setting.relay, &setting.site, options).await
    };
    let agent = start().await;
    let mut listener = send(setting.client.get(setting.long_link().await)).await;
    listener.chunk().await.unwrap().unwrap();
    record.wait_until(|_| !record.begun().is_empty()).await;
    agent.process.kill().await;
    let begun = record.begun();
    assert_eq!((begun.len(), &begun[0]["call_id"]), (1, &LONG.into()));
    let started = Instant::now();
    let _agent = start().await;
    let lines = record.wait_until(|lines| lines.iter().any(|line| line["kind"] == "delivery")).await;
    let took = started.elapsed();
    let closed: Vec<_> = lines.iter().filter(|line| line["kind"] == "delivery").collect();
    assert_eq!(closed.len(), 1);
    assert_eq!((&closed[0]["delivery"], &closed[0]["outcome"]), (&begun[0]["delivery"], &"cut".into()));
    matrix::row(
        "agent",
        "killed (SIGKILL) during a delivery",
        "the audit log has the delivery from its start, and closes it as cut at the next start",
        format!("1 line at its start; closed {} after the restart", ms(took)),
    );
    drop(listener);
}

#[tokio::test]
async fn one_of_two_agents_is_stopped_in_order_during_searches_and_no_search_fails() {
    let setting = Setting::new(Relay::start().await).await;
    let (mut first, second) = (setting.agent().await, setting.agent().await);
    let (failed, slowest) = ask(&setting, SEARCHES / 2, async || first.process.terminate()).await;
    assert_eq!(failed, 0);
    assert!(first.process.wait().await.success());
    drop(second);
    setting.nothing_is_left().await;
    let promise = "no search fails: the relay asks the other agent if the first refuses because it stops";
    let measured = format!("{failed} of {} failed, slowest {}", SEARCHES / 2, ms(slowest));
    matrix::row("agent", "one of two stopped (SIGTERM)", promise, measured);
}

#[tokio::test]
async fn one_of_two_agents_is_suspended_and_the_other_answers() {
    let setting = Setting::new(Relay::start().await).await;
    let (first, second) = (setting.agent().await, setting.agent().await);
    setting.search().await;
    setting.search().await;
    first.process.signal("STOP");
    let (failed, slowest) = ask(&setting, 40, async || {}).await;
    assert_eq!(failed, 0);
    first.process.signal("CONT");
    setting.search().await;
    drop(second);
    setting.nothing_is_left().await;
    let promise = "no search fails: after 3 s of silence the relay asks the other agent, and prefers it";
    matrix::row(
        "agent",
        "one of two suspended (SIGSTOP)",
        promise,
        format!("0 failed, slowest {}", ms(slowest)),
    );
}

#[tokio::test]
async fn an_agent_that_was_suspended_answers_what_waited_for_it() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    agent.process.signal("STOP");
    let asked = Instant::now();
    let (status, ()) = tokio::join!(setting.search_status(), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        agent.process.signal("CONT");
    });
    assert_eq!(status, 200);
    setting.nothing_is_left().await;
    let promise = "requests from that time are answered when it continues (within the 15 s of a search)";
    matrix::row("agent", "suspended for 5 s", promise, format!("answered after {}", ms(asked.elapsed())));
}

#[tokio::test]
async fn a_killed_agent_that_is_started_again_costs_no_search() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    agent.process.kill().await;
    let asked = Instant::now();
    let (status, agent) = tokio::join!(setting.search_status(), setting.agent());
    assert_eq!(status, 200);
    drop(agent);
    setting.nothing_is_left().await;
    let promise = "searches wait up to 8 s for it";
    matrix::row(
        "agent",
        "killed and started again",
        promise,
        format!("answered after {}", ms(asked.elapsed())),
    );
}

#[tokio::test]
async fn a_site_whose_agent_does_not_come_back_is_reported_offline_in_time() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    agent.process.kill().await;
    setting.relay.wait_for_status("acme", |status| status["state"] == "down").await;
    let asked = Instant::now();
    assert_eq!(setting.search_status().await, 503);
    let first = asked.elapsed();
    assert!(first < Duration::from_secs(14), "{first:?}");
    let asked = Instant::now();
    assert_eq!(setting.search_status().await, 503);
    setting.nothing_is_left().await;
    let promise = "503 within 8 s after the loss, later at once";
    let measured = format!("503 after {}, the next after {}", ms(first), ms(asked.elapsed()));
    matrix::row("agent", "killed, not started again", promise, measured);
}

#[tokio::test]
async fn a_relay_that_was_killed_and_started_again_holds_searches_until_its_agents_are_back() {
    let mut setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    // A relay reads from its database which agents were connected.
    setting.relay.audit(1).await;
    let mark = agent.process.mark();
    setting.relay.kill().await;
    setting.relay.restart().await;
    let asked = Instant::now();
    assert_eq!(setting.search_status().await, 200);
    let took = asked.elapsed();
    agent.process.wait_for_code_after(mark, CONNECTED).await;
    setting.nothing_is_left().await;
    let promise = "searches of sites that were connected wait up to 8 s for their agents";
    matrix::row("relay", "killed and started again", promise, format!("answered after {}", ms(took)));
}

#[tokio::test]
async fn a_relay_that_was_suspended_continues() {
    let setting = Setting::new(Relay::start().await).await;
    let agent = setting.agent().await;
    setting.search().await;
    let mark = agent.process.mark();
    setting.relay.process().signal("STOP");
    let (status, ()) = tokio::join!(setting.search_status(), async {
        agent.process.wait_for_code_after(mark, "tunnel.silent").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        setting.relay.process().signal("CONT");
    });
    assert_eq!(status, 200);
    setting.nothing_is_left().await;
    let promise = "requests from that time are answered when it continues";
    matrix::row("relay", "suspended for 5 s", promise, "answered");
}
