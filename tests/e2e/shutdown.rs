//! An orderly stop: running downloads finish, then the program exits with success.

use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    client::{client, first_link, search, send},
    recordings::{noise, write},
    relay::{Relay, Site},
};
use reqwest::Response;
use tempfile::TempDir;

struct Listening {
    relay: Relay,
    agent: Agent,
    site: Site,
    response: Response,
    content: Vec<u8>,
    _dir: TempDir,
}

/// A listener in the middle of a download.
async fn listening(relay: Relay) -> Listening {
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let content = noise(32 * 1024 * 1024, 1);
    write(dir.path(), "in-1711441902.17.wav", &content);
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let link = first_link(&search(&client, &site, "1711441902.17", &[]).await);
    let response = send(client.get(link)).await;
    relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 1).await;
    Listening { relay, agent, site, response, content, _dir: dir }
}

async fn the_rest_is_whole(mut response: Response, content: &[u8]) {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert!(bytes == content, "the download was cut or changed");
}

#[tokio::test]
async fn an_agent_lets_downloads_finish_and_ends_with_success() {
    let mut scene = listening(Relay::start().await).await;
    scene.agent.process.terminate();
    scene.agent.process.wait_for_code("tunnel.draining").await;
    scene.relay.wait_for_status("acme", |status| status["sessions"][0]["leaving"] == true).await;
    the_rest_is_whole(scene.response, &scene.content).await;
    assert_eq!(scene.agent.process.wait().await.code(), Some(0));
    scene.relay.wait_for_status("acme", |status| status["state"] == "down").await;
}

#[tokio::test]
async fn a_relay_lets_downloads_finish_and_ends_with_success() {
    let mut scene = listening(Relay::start().await).await;
    scene.relay.process().terminate();
    scene.agent.process.wait_for_code("tunnel.asked_to_redial").await;
    the_rest_is_whole(scene.response, &scene.content).await;
    let mut process = scene.relay.process.take().unwrap();
    assert_eq!(process.wait().await.code(), Some(0));
    let mark = scene.agent.process.mark();
    scene.relay.restart().await;
    scene.agent.process.wait_for_code_after(mark, CONNECTED).await;
    search(&client(&scene.relay), &scene.site, "1711441902.17", &[]).await;
}

#[tokio::test]
async fn idle_programs_end_at_once() {
    let mut relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    agent.process.terminate();
    assert_eq!(agent.process.wait().await.code(), Some(0));
    relay.process().terminate();
    assert_eq!(relay.process.take().unwrap().wait().await.code(), Some(0));
}
