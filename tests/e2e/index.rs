//! The index, as a site uses it: built while searches work, kept across restarts, and always verified.

use std::{fs, path::Path, time::SystemTime};

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, search},
    process::Process,
    recordings::{CALL, one_recording, wav, write},
    relay::{Relay, Site},
};
use reqwest::Client;
use tempfile::TempDir;

const FINISHED: &str = "index.up_to_date";

async fn finds(client: &Client, site: &Site, call: &str) -> usize {
    let found = search(client, site, call, &[]).await;
    assert_eq!(found["complete"], true, "{found}");
    found["files"].as_array().unwrap().len()
}

async fn end(mut agent: Agent) {
    agent.process.terminate();
    agent.process.wait().await;
}

fn indexed(dir: &Path, index: &Path) -> AgentOptions {
    AgentOptions::new(dir).with(&["--index", index.to_str().unwrap()])
}

#[tokio::test]
async fn a_site_with_an_index_answers_for_old_new_and_missing_calls() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, index) = (one_recording(), TempDir::new().unwrap());
    let index = index.path().join("made");
    let client = client(&relay);
    let agent = Agent::start(&relay, &site, indexed(dir.path(), &index)).await;
    agent.process.wait_for_code(FINISHED).await;
    assert_eq!(finds(&client, &site, CALL).await, 1);
    assert_eq!(finds(&client, &site, "1511444502.99").await, 0);

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let call = format!("{now}.5");
    assert_eq!(finds(&client, &site, &call).await, 0, "it has not been recorded yet");
    write(dir.path(), format!("in-{call}.wav"), &wav(1.0, 1));
    assert_eq!(finds(&client, &site, &call).await, 1, "at once");
    fs::remove_file(dir.path().join(format!("in-{call}.wav"))).unwrap();
    assert_eq!(finds(&client, &site, &call).await, 0, "a deleted recording is not returned");

    end(agent).await;
    let again = Agent::start(&relay, &site, indexed(dir.path(), &index)).await;
    again.process.wait_for_code(FINISHED).await;
    assert_eq!(finds(&client, &site, CALL).await, 1);
}

#[tokio::test]
async fn the_classic_audiovault_keeps_one_too() {
    let (dir, index) = (one_recording(), TempDir::new().unwrap());
    let (path, index) = (format!("file:{}", dir.path().display()), index.path().display().to_string());
    let arguments = [
        "serve",
        "--bind-to",
        "127.0.0.1:0",
        "--token",
        "a-search-token",
        "--index",
        &index,
        "--path",
        &path,
    ];
    let serving = Process::start("audiovault-agent", &arguments.map(str::to_owned), &[]);
    serving.wait_for_code(FINISHED).await;
}

#[tokio::test]
async fn an_index_that_cannot_be_kept_stops_no_search() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, elsewhere) = (one_recording(), TempDir::new().unwrap());
    let file = elsewhere.path().join("a-file");
    fs::write(&file, "").unwrap();
    let agent = Agent::start(&relay, &site, indexed(dir.path(), &file.join("index"))).await;
    agent.process.wait_for("cannot use the index in").await;
    assert_eq!(finds(&client(&relay), &site, CALL).await, 1);
}

#[tokio::test]
async fn a_damaged_index_is_made_anew() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, index) = (one_recording(), TempDir::new().unwrap());
    let agent = Agent::start(&relay, &site, indexed(dir.path(), index.path())).await;
    agent.process.wait_for_code(FINISHED).await;
    end(agent).await;
    for file in fs::read_dir(index.path()).unwrap() {
        let file = file.unwrap().path();
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, bytes.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
    }
    let agent = Agent::start(&relay, &site, indexed(dir.path(), index.path())).await;
    agent.process.wait_for_code("index.damaged").await;
    agent.process.wait_for_code(FINISHED).await;
    assert_eq!(finds(&client(&relay), &site, CALL).await, 1);
}
