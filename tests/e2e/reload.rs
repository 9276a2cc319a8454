//! A running agent reads its configuration again, and no tunnel is closed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures_util::StreamExt;
use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    client::{body, client, first_link, names, search, search_with, send},
    process::Process,
    recordings::{CALL, noise, one_recording, wav, write},
    relay::{Relay, Site},
};
use serde_json::Value;
use tempfile::TempDir;

const IN_USE: &str = "config.reloaded";
/// Longer than all buffers between a disk and a listener.
const LONG: usize = 24_000_000;

/// A site that keeps everything in files, as `install` creates it.
struct Place {
    dir: TempDir,
    relay: Relay,
    site: Site,
    agent: Process,
}

impl Place {
    async fn new(more: &str) -> Self {
        let relay = Relay::start().await;
        let site = relay.add_site("acme", &[]).await;
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), format!("here/in-{CALL}.wav"), &wav(1.0, 1));
        write(dir.path(), format!("there/in-{CALL}.mp3"), &noise(1000, 2));
        fs::write(dir.path().join("site.key"), &site.site_key).unwrap();
        fs::write(dir.path().join("token"), &site.search_token).unwrap();
        let config = config(dir.path(), &relay, "here", more);
        let arguments = ["tunnel", "--config", config.to_str().unwrap()].map(str::to_owned);
        let agent = Process::start("audiovault-agent", &arguments, &[("TZ", "UTC".to_owned())]);
        agent.wait_for_code(CONNECTED).await;
        Self { dir, relay, site, agent }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn session(&self) -> Value {
        self.relay.wait_for_status("acme", |status| status["sessions"][0].is_object()).await["sessions"][0]
            .clone()
    }
}

fn config(dir: &Path, relay: &Relay, root: &str, more: &str) -> PathBuf {
    let (path, at) = (dir.join("agent.toml"), dir.display());
    let text = format!(
        "relay = '{}'\npath = 'file:{at}/{root}'\ntoken-file = '{at}/token'\nsite-key-file = '{at}/site.key'\n{more}",
        relay.tunnel_url()
    );
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn tokens_paths_and_tenants_change_while_a_download_runs_through_the_same_tunnel() {
    let place = Place::new("").await;
    let client = client(&place.relay);
    let long = noise(LONG, 3);
    write(place.dir.path(), "here/in-1711441902.18.mp3", &long);
    let link = first_link(&search(&client, &place.site, "1711441902.18", &[]).await);
    let session = place.session().await;
    let mut download = send(client.get(link)).await.bytes_stream();
    let mut received = download.next().await.unwrap().unwrap().to_vec();

    let mark = place.agent.mark();
    fs::write(place.file("token"), "another-token-altogether").unwrap();
    place.agent.wait_for_code_after(mark, IN_USE).await;
    assert_eq!(search_with(&client, &place.site, CALL, &[]).await.status(), 401);
    let site = Site { search_token: "another-token-altogether".to_owned(), ..place.site.clone() };
    assert_eq!(names(&search(&client, &site, CALL, &[]).await), [format!("in-{CALL}.wav")]);

    let mark = place.agent.mark();
    let tenants = r#"[{"tenant": "shop", "secret": "the-secret-of-the-shop"}]"#;
    fs::write(place.file("tenants.json"), tenants).unwrap();
    let more = format!("tenants = '{}'", place.file("tenants.json").display());
    config(place.dir.path(), &place.relay, "there", &more);
    place.agent.signal("HUP");
    place.agent.wait_for_code_after(mark, IN_USE).await;
    assert_eq!(names(&search(&client, &site, CALL, &[]).await), [format!("in-{CALL}.mp3")]);

    while let Some(chunk) = download.next().await {
        received.extend_from_slice(&chunk.unwrap());
    }
    assert!(received == long, "{} bytes of {LONG} arrived", received.len());
    assert_eq!(place.session().await["instance"], session["instance"]);
    assert!(!place.agent.log().iter().any(|line| line.contains("dialling again")), "no tunnel ended");
}

#[tokio::test]
async fn links_of_this_run_stay_good_and_those_of_a_withdrawn_token_die() {
    let place = Place::new("").await;
    let client = client(&place.relay);
    let link = first_link(&search(&client, &place.site, CALL, &[]).await);
    let mark = place.agent.mark();
    place.agent.signal("HUP");
    place.agent.wait_for_code_after(mark, IN_USE).await;
    assert_eq!(body(send(client.get(&link)).await).await, (200, wav(1.0, 1)));
    let mark = place.agent.mark();
    fs::write(place.file("token"), "another-token-altogether").unwrap();
    place.agent.wait_for_code_after(mark, IN_USE).await;
    assert_eq!(send(client.get(&link)).await.status(), 410);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing_and_is_reported() {
    let place = Place::new("").await;
    let client = client(&place.relay);
    let mark = place.agent.mark();
    config(place.dir.path(), &place.relay, "there", "relai = 'wss://typo.example'");
    let line = place.agent.wait_for_code_after(mark, "config.reload_failed").await;
    assert!(line.contains("unknown key \"relai\""), "{line}");
    assert_eq!(names(&search(&client, &place.site, CALL, &[]).await), [format!("in-{CALL}.wav")]);
    let mark = place.agent.mark();
    config(place.dir.path(), &place.relay, "there", "");
    place.agent.wait_for_code_after(mark, IN_USE).await;
    assert_eq!(names(&search(&client, &place.site, CALL, &[]).await), [format!("in-{CALL}.mp3")]);
}

#[tokio::test]
async fn a_new_site_key_is_tried_in_a_second_tunnel() {
    let place = Place::new("").await;
    let client = client(&place.relay);
    let mark = place.agent.mark();
    let wrong = format!("avk_acme_{}", "a".repeat(52));
    fs::write(place.file("site.key"), wrong).unwrap();
    let line = place.agent.wait_for_code_after(mark, "tunnel.reconfiguration_failed").await;
    assert!(line.contains("401"), "{line}");
    search(&client, &place.site, CALL, &[]).await;

    let rotated = place.relay.site_command(&["rotate-key", "acme"]).await;
    let mark = place.agent.mark();
    fs::write(place.file("site.key"), rotated["site_key"].as_str().unwrap()).unwrap();
    place.agent.wait_for_code_after(mark, "tunnel.reconfigured").await;
    place.relay.wait_for_status("acme", |status| status["sessions"][1].is_null()).await;
    place.relay.site_command(&["revoke-key", "acme"]).await;
    search(&client, &place.site, CALL, &[]).await;
    assert!(!place.agent.log().iter().any(|line| line.contains("dialling again")), "there was no gap");
}

#[tokio::test]
async fn tunnels_are_added_and_taken_away() {
    let place = Place::new("").await;
    let client = client(&place.relay);
    config(place.dir.path(), &place.relay, "here", "connections = 3");
    place.relay.wait_for_status("acme", |status| status["sessions"][2].is_object()).await;
    config(place.dir.path(), &place.relay, "here", "connections = 1");
    place.relay.wait_for_status("acme", |status| status["sessions"][1].is_null()).await;
    search(&client, &place.site, CALL, &[]).await;
}

/// The harness starts its agent only with flags; on a signal the agent reads the same flags again.
#[tokio::test]
async fn an_agent_without_a_file_survives_a_hangup() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let mark = agent.process.mark();
    agent.process.signal("HUP");
    agent.process.wait_for_code_after(mark, IN_USE).await;
    search(&client(&relay), &site, CALL, &[]).await;
}
