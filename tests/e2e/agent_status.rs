//! What an administrator can ask an agent and its configuration.

use std::{fs, time::Duration};

use harness::{
    address::free_address,
    agent::{Agent, AgentOptions},
    operator::Operator,
    process::{PATIENCE, run},
    recordings::one_recording,
    relay::{Relay, Site},
};
use tempfile::TempDir;

async fn ask(arguments: &[&str]) -> (i32, String, String) {
    run("audiovault-agent", arguments, &[]).await
}

/// The status as soon as it has this text, with its exit code.
async fn status_with(file: &str, wanted: &str) -> (i32, String) {
    let asking = async {
        loop {
            let (exit, out, _) = ask(&["status", "--state-file", file]).await;
            if out.contains(wanted) {
                return (exit, out);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

#[tokio::test]
async fn the_status_names_the_relay_that_is_up_and_why_the_other_is_not() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, states) = (one_recording(), TempDir::new().unwrap());
    let file = states.path().join("state.json").display().to_string();
    let unused = format!("ws://{}", free_address());
    let options = AgentOptions::new(dir.path()).with(&["--relay", &unused, "--state-file", &file]);
    let _agent = Agent::start(&relay, &site, options).await;

    // The order of the two is not defined.
    status_with(&file, "Connection refused").await;
    let (exit, out) = status_with(&file, "1 of 2 tunnels").await;
    assert_eq!(exit, 0, "one tunnel is enough: {out}");
    let first = out.lines().next().unwrap();
    assert!(first.contains(&format!("connected to {} (1 of 2 tunnels)", relay.address)), "{out}");
    assert!(out.lines().any(|line| line.starts_with("down") && line.contains(&unused)), "{out}");
    assert!(out.lines().any(|line| line.starts_with("readable") && line.contains("file:")), "{out}");

    let (_, json, _) = ask(&["status", "--json", "--state-file", &file]).await;
    let state: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&state["site"], &state["connected"]), (&"acme".into(), &true.into()));
}

#[tokio::test]
async fn the_status_of_an_agent_that_is_not_connected_or_not_there_fails() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let (dir, states) = (one_recording(), TempDir::new().unwrap());
    let file = states.path().join("state.json").display().to_string();
    let (exit, _, err) = ask(&["status", "--state-file", &file]).await;
    assert!(exit == 1 && err.contains("check that the agent runs"), "{exit} {err}");

    let unused = format!("ws://{}", free_address());
    let options = AgentOptions::new(dir.path()).through(unused).with(&["--state-file", &file]);
    let _agent = Agent::spawn(&relay, &site, options);
    let (exit, out) = status_with(&file, "not connected: ").await;
    assert_eq!(exit, 1, "{out}");
    let (exit, _, err) = ask(&["status"]).await;
    assert!(exit == 2 && err.contains("--state-file"), "{exit} {err}");
}

#[tokio::test]
async fn the_page_of_a_site_warns_of_a_short_token_and_does_not_show_it() {
    const TEN: &str = "qm-secret1";
    let relay = Relay::start().await;
    let site = Site { search_token: TEN.to_owned(), ..relay.add_site("acme", &[]).await };
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    relay.wait_for_status("acme", |site| site["sessions"][0]["problems"][0].is_string()).await;
    relay.add_user("maria", &["--role", "viewer"]).await;
    let page = Operator::log_in(&relay, "maria").await.page("/sites/acme").await;
    assert!(page.contains("fewer than 16") && !page.contains(TEN), "{page}");
}

#[tokio::test]
async fn an_example_with_the_sites_own_files_is_a_configuration() {
    let dir = TempDir::new().unwrap();
    let (_, example, _) = ask(&["config", "example"]).await;
    let here = example.replace("/etc/audiovault-agent", &dir.path().display().to_string());
    let config = dir.path().join("agent.toml");
    fs::write(&config, &here).unwrap();
    let check = ["config", "check", "--config", config.to_str().unwrap()];

    let (exit, out, _) = ask(&check).await;
    assert!(exit == 2 && out.contains("site-key"), "{exit} {out}");
    for (name, secret) in [
        ("site-key", format!("avk_acme_{}", "a".repeat(52))),
        ("search-token", "a-long-search-token".to_owned()),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    let (exit, out, err) = ask(&check).await;
    assert!(exit == 0 && out.contains("The configuration can be used."), "{exit} {out} {err}");
    assert!(!out.contains("a-long-search-token"), "{out}");

    fs::write(&config, format!("{here}\nrelai = 'x'\n")).unwrap();
    let (exit, out, err) = ask(&check).await;
    assert!(exit == 2 && out.contains("unknown key \"relai\""), "{exit} {out} {err}");
    let (exit, json, _) = ask(&[&check[..], &["--json"]].concat()).await;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((exit, report["rows"].as_array().unwrap().len()), (2, 1), "{report}");
    assert_eq!(report["rows"][0]["state"], "FAIL");
}
