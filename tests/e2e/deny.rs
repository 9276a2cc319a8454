//! Denied recordings: not found at once, their links do not work any more, running downloads are cut.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use harness::{
    agent::{Agent, AgentOptions},
    agent_audit_log::AgentAuditLog,
    client::{body, client, first_link, names, search, send},
    process::{PATIENCE, Process, run},
    recordings::{CALL, noise, wav, write},
    relay::{Relay, Site},
};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

const LONG_CALL: &str = "1711441902.99";
const OTHER_CALL: &str = "1711441902.18";
/// More than all socket buffers on the way can hold.
const LONG: usize = 64 * 1024 * 1024;
const NO_LONGER: &str = "this recording is no longer offered";

/// A site with three calls, whose agent has a deny file and writes an audit log.
struct Place {
    dir: TempDir,
    relay: Relay,
    site: Site,
    client: Client,
    agent: Agent,
    record: AgentAuditLog,
}

impl Place {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for call in [CALL, OTHER_CALL] {
            write(dir.path(), format!("rec/2024/in-{call}.wav"), &wav(1.0, 1));
        }
        write(dir.path(), format!("rec/2024/in-{LONG_CALL}.wav"), &noise(LONG, 1));
        let (deny, record) = (dir.path().join("deny"), AgentAuditLog::in_directory(dir.path()));
        fs::write(&deny, "# nothing yet\n").unwrap();
        let relay = Relay::start().await;
        let site = relay.add_site("acme", &[]).await;
        let state = dir.path().join("state.json");
        let more = ["--deny", deny.to_str().unwrap(), "--state-file", state.to_str().unwrap()];
        let options = AgentOptions::new(dir.path().join("rec")).with(&record.flag()).with(&more);
        let agent = Agent::start(&relay, &site, options).await;
        let client = client(&relay);
        Self { dir, relay, site, client, agent, record }
    }

    fn deny(&self, rules: &str) {
        fs::write(self.dir.path().join("deny"), rules).unwrap();
    }

    async fn search(&self, call: &str) -> Value {
        search(&self.client, &self.site, call, &[]).await
    }

    async fn found(&self, call: &str) -> usize {
        let found = self.search(call).await;
        assert_eq!((&found["status"], &found["complete"]), (&"ok".into(), &true.into()));
        names(&found).len()
    }

    async fn link(&self, call: &str) -> String {
        first_link(&self.search(call).await)
    }

    /// Waits until the state file reports a problem, or reports none.
    async fn problem(&self, wanted: Option<&str>) {
        let path: PathBuf = self.dir.path().join("state.json");
        let reported = async {
            loop {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let state: Value = serde_json::from_str(&text).unwrap_or_default();
                match (wanted, state["problem"].as_str()) {
                    (Some(wanted), Some(problem)) if problem.contains(wanted) => return,
                    (None, None) if state["connected"] == true => return,
                    (_, _) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, reported).await.unwrap();
    }
}

#[tokio::test]
async fn denying_a_call_kills_its_link_at_once_and_undenying_brings_it_back() {
    let place = Place::new().await;
    let link = place.link(CALL).await;
    let other = place.link(OTHER_CALL).await;
    assert_eq!(body(send(place.client.get(&link)).await).await.0, 200);
    place.deny(CALL);
    let refused = send(place.client.get(&link)).await;
    assert_eq!(
        (refused.status(), refused.headers()["cache-control"].to_str().unwrap()),
        (StatusCode::GONE, "private, no-store")
    );
    let problem: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(problem["detail"], NO_LONGER);
    assert_eq!(send(place.client.head(&link)).await.status(), 410);
    assert_eq!(place.found(CALL).await, 0);
    assert_eq!(place.found("pbx1-1711441902_17").await, 0, "by another name of the same call");
    assert_eq!(
        (place.found(OTHER_CALL).await, send(place.client.get(other)).await.status().as_u16()),
        (1, 200)
    );
    place.deny("");
    let back = async {
        while send(place.client.get(&link)).await.status() == 410 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    assert_eq!(body(send(place.client.get(&link)).await).await, (200, wav(1.0, 1)));
    assert_eq!(place.found(CALL).await, 1);
    let lines = place.record.wait_until(|lines| lines.len() >= 14).await;
    let denied: Vec<_> = lines.iter().filter(|line| line["outcome"] == "denied").collect();
    assert!(denied.len() >= 4, "{lines:#?}");
    assert!(denied.iter().any(|line| line["problem"] == NO_LONGER && line["call_id"] == CALL), "{denied:#?}");
    assert!(denied.iter().any(|line| line["kind"] == "search" && line["found"] == 0), "{denied:#?}");
}

#[tokio::test]
async fn a_running_download_is_cut_and_never_looks_whole() {
    let place = Place::new().await;
    let link = place.link(LONG_CALL).await;
    let mut running = send(place.client.get(&link)).await;
    running.chunk().await.unwrap().unwrap();
    // A listener who pauses reads nothing, and still loses the rest.
    let mut paused = send(place.client.get(&link)).await;
    paused.chunk().await.unwrap().unwrap();
    let denied = Instant::now();
    place.deny("2024/in-*.99.wav");
    place.relay.wait_for_status("acme", |status| status["sessions"][0]["open_streams"] == 0).await;
    let took = denied.elapsed();
    // A second, and the time that this machine needs to look at the status.
    assert!(took < Duration::from_secs(5), "{took:?}");
    for mut response in [running, paused] {
        let mut bytes = 0;
        let ended = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes += chunk.len(),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        assert!(ended.is_err() && bytes < LONG / 2, "{bytes} bytes arrived");
    }
    let lines = place.record.wait_for(3).await;
    for line in &lines[1..] {
        assert_eq!((&line["outcome"], &line["status"]), (&"denied".into(), &200.into()));
        assert!(line["octets"].as_u64().unwrap() < LONG as u64 / 2, "{line}");
    }
    assert_eq!(send(place.client.get(&link)).await.status(), 410);
}

#[tokio::test]
async fn a_broken_deny_file_keeps_the_earlier_rules_and_is_reported() {
    let place = Place::new().await;
    place.deny(CALL);
    assert_eq!(place.found(CALL).await, 0);
    place.deny(&format!("{OTHER_CALL}\n34911223344\n"));
    // Also without any request.
    let line = place.agent.process.wait_for_code("deny_list.failed").await;
    assert!(line.contains("ERROR") && line.contains("line 2") && !line.contains("349112"), "{line}");
    place.problem(Some("line 2 is neither a call id nor a glob")).await;
    assert_eq!((place.found(CALL).await, place.found(OTHER_CALL).await), (0, 1));
    let mark = place.agent.process.mark();
    fs::remove_file(place.dir.path().join("deny")).unwrap();
    place.agent.process.wait_for_code_after(mark, "deny_list.failed").await;
    assert_eq!((place.found(CALL).await, place.found(OTHER_CALL).await), (0, 1));
    place.deny(OTHER_CALL);
    assert_eq!(place.found(OTHER_CALL).await, 0);
    place.problem(None).await;
}

#[tokio::test]
async fn a_deny_file_that_cannot_be_used_at_the_start_is_a_mistake_in_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let deny = dir.path().join("deny");
    let deny = deny.to_str().unwrap();
    let arguments = ["serve", "--token", "master-token", "--path", "/rec", "--deny", deny];
    let (code, _, said) = run("audiovault-agent", &arguments, &[]).await;
    assert!(code == 2 && said.contains("cannot be read"), "{said}");
    fs::write(deny, "[").unwrap();
    let (code, _, said) = run("audiovault-agent", &arguments, &[]).await;
    assert!(code == 2 && said.contains("the glob in line 1 is malformed"), "{said}");
}

#[tokio::test]
async fn the_classic_audiovault_uses_it_and_the_admins_own_commands_do_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), format!("rec/in-{LONG_CALL}.wav"), &noise(LONG, 1));
    let (deny, path) = (dir.path().join("deny"), format!("file:{}/rec", dir.path().display()));
    fs::write(&deny, "").unwrap();
    let arguments =
        ["serve", "--bind-to", "127.0.0.1:0", "--token", "master-token", "--path", &path, "--deny"];
    let arguments: Vec<_> = arguments.into_iter().chain(deny.to_str()).map(str::to_owned).collect();
    let agent = Process::start("audiovault-agent", &arguments, &[]);
    let line = agent.wait_for_code("listener.started").await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let client = Client::new();
    let url = format!("http://{address}/search?token=master-token&callid={LONG_CALL}");
    let found: Value = serde_json::from_str(&send(client.get(url)).await.text().await.unwrap()).unwrap();
    let link = first_link(&found);
    let mut running = send(client.get(&link)).await;
    running.chunk().await.unwrap().unwrap();
    fs::write(&deny, format!("{}/rec", dir.path().display())).unwrap();
    assert_eq!(send(client.get(&link)).await.status(), 410);
    let ended = tokio::time::timeout(PATIENCE, async {
        while running.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    });
    assert!(ended.await.unwrap().is_err(), "the body is cut");
    let (code, said, _) = run("audiovault-agent", &["search", LONG_CALL, "--path", &path], &[]).await;
    assert!(code == 0 && said.contains(LONG_CALL), "{said}");
}
