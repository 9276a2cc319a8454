//! The logs of the programs: their reader may stop, and nothing is lost at their end.

use futures_util::{StreamExt, stream};
use harness::{
    agent::{Agent, AgentOptions},
    client::{client, search_with, send},
    process::{Process, has_code},
    recordings::write,
    relay::Relay,
};
use reqwest::Client;

/// Requests whose log lines fill the pipe and the relay's buffer of 1 MiB, at about 250 bytes each.
const REQUESTS: usize = 8_000;
/// Requests at a time.
const AT_A_TIME: usize = 16;

async fn ask(client: &Client, url: &str) {
    let ask = |_| async { assert_eq!(send(client.get(url)).await.status(), 404) };
    stream::iter(0..REQUESTS).map(ask).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

/// How many lines the program has reported as lost.
fn lost(log: &[String]) -> usize {
    let lines = log.iter().filter(|line| has_code(line, "log.lines_lost"));
    let number =
        |line: &String| line.split("lines=").nth(1)?.split_whitespace().next()?.parse::<usize>().ok();
    lines.map(|line| number(line).unwrap_or_else(|| panic!("a number in {line}"))).sum()
}

async fn ended(process: &mut Process) {
    process.terminate();
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_relay_goes_on_while_its_log_is_not_read_and_says_what_was_lost() {
    let mut relay = Relay::start().await;
    let client = client(&relay);
    let mut process = relay.process.take().unwrap();
    process.set_reading(false);
    ask(&client, &format!("{}/unknown", relay.url())).await;
    process.set_reading(true);
    process.wait_for_code("log.lines_lost").await;
    ended(&mut process).await;
    process.wait_for_code("program.stopped").await;
    let log = process.log();
    let kept = log.iter().filter(|line| line.contains("status=404")).count();
    assert!(lost(&log) > 0);
    assert_eq!(kept + lost(&log), REQUESTS);
}

#[tokio::test]
async fn programs_whose_log_is_not_read_end_all_the_same() {
    let mut relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "in-1711441902.17.wav", b"sound");
    let mut agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let mut process = relay.process.take().unwrap();
    process.set_reading(false);
    agent.process.set_reading(false);
    // More than a pipe of 64 KiB holds.
    for _ in 0..1_000 {
        assert_eq!(search_with(&client, &site, "1711441902.17", &[]).await.status(), 200);
    }
    ended(&mut agent.process).await;
    ended(&mut process).await;
}
