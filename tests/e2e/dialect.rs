//! The dialect of a client whose field names were not known before.

use std::{fs, path::PathBuf};

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, search_with, send},
    recordings::{CALL, one_recording, wav},
    relay::Relay,
};
use serde_json::Value;
use tempfile::TempDir;

fn example() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../agent/dialect.example.toml")
}

#[tokio::test]
async fn a_search_with_other_field_names_is_understood_and_answered_in_its_own_shape() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let dialect = example();
    let options =
        AgentOptions::new(dir.path()).with(&["--dialect", dialect.to_str().unwrap(), "--verbose-search"]);
    let agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    let form = [("apikey", site.search_token.as_str()), ("uid", CALL), ("shoe-size", "43-secret")];
    let answer = send(client.post(&site.search_url).form(&form)).await;
    let answer: Value = serde_json::from_slice(&body(answer).await.1).unwrap();
    assert_eq!((&answer["found"], &answer["all"]), (&1.into(), &true.into()), "{answer}");
    let link = answer["audio"][0]["href"].as_str().unwrap();
    assert_eq!(body(send(client.get(link)).await).await, (200, wav(1.0, 1)));
    assert_eq!(search_with(&client, &site, CALL, &[]).await.status(), 200, "the usual names work as well");

    let line = agent.process.wait_for_code("search.fields").await;
    assert!(line.contains("shoe-size") && !line.contains("43-secret") && !line.contains(CALL), "{line}");
}

#[tokio::test]
async fn a_dialect_that_changes_is_read_again_and_a_wrong_one_changes_nothing() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, files) = (one_recording(), TempDir::new().unwrap());
    let file = files.path().join("dialect.toml");
    fs::write(&file, "response = ['$each', '$url']").unwrap();
    let options = AgentOptions::new(dir.path()).with(&["--dialect", file.to_str().unwrap()]);
    let agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    let answer = async || {
        let answer = search_with(&client, &site, CALL, &[]).await;
        serde_json::from_slice::<Value>(&body(answer).await.1).unwrap()
    };
    assert_eq!(answer().await.as_array().unwrap().len(), 1);
    fs::write(&file, "response = '$nothing'").unwrap();
    agent.process.wait_for_code("config.reload_failed").await;
    assert_eq!(answer().await.as_array().unwrap().len(), 1);
    fs::write(&file, "response = '$count'").unwrap();
    agent.process.wait_for_code("config.reloaded").await;
    assert_eq!(answer().await, 1);
}
