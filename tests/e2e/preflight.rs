//! `audiovault-agent check` at the site: what works, and what is wrong with key, configuration and storage.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, search_with},
    preflight::{Report, STEPS, check, table},
    process::{installed, run, skip},
    recordings::{CALL, one_recording, wav, write, write_at},
    relay::{Relay, Site},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The user `nobody`, with its number in Debian and Fedora.
const NOBODY: u32 = 65534;

/// A relay with TLS that serves one site.
async fn relay() -> (Relay, Site) {
    let relay = Relay::start_tls().await;
    let site = relay.add_site("acme", &[]).await;
    (relay, site)
}

#[tokio::test]
async fn all_checks_pass_without_disturbing_a_running_agent() {
    let (relay, site) = relay().await;
    let dir = TempDir::new().unwrap();
    write(dir.path(), format!("external-400-5551234567-20240326-{CALL}.wav"), &wav(1.0, 1));
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let before = relay.status("acme").await["sessions"].clone();
    assert!(before[0]["session"].is_string(), "{before}");
    let mark = agent.process.mark();

    let options = AgentOptions::new(dir.path());
    let report = check(&relay, &site, &options).await;
    report.is_well();
    let expected = (&json!("acme"), &json!(env!("CARGO_PKG_VERSION")));
    assert_eq!((&report.json["site"], &report.json["version"]), expected);
    for row in report.json["rows"].as_array().unwrap() {
        let mut fields: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        fields.retain(|field| *field != "subject");
        assert_eq!(fields, ["advice", "detail", "elapsed_ms", "id", "relay", "state"], "{row}");
        let own_side = ["configuration", "path", "recordings", "sample_search"];
        let alone = own_side.contains(&row["id"].as_str().unwrap());
        assert_eq!(
            row["relay"],
            if alone { Value::Null } else { format!("{}/", relay.tunnel_url()).into() },
            "{row}"
        );
    }
    assert!(report.said("round_trip").contains("the first 1024 bytes"), "{report:?}");
    assert!(report.said("round_trip").contains("through the connected agent"), "{report:?}");
    assert!(report.said("sample_search").contains(CALL), "{report:?}");
    assert!(!report.json.to_string().contains("5551234567"), "numbers are masked: {report:?}");

    let (code, said) = table(&relay, &site, &options).await;
    assert_eq!((code, said.matches("PASS ").count()), (0, STEPS.len()), "{said}");
    assert!(said.ends_with("\nEverything works. 12 PASS, 0 WARN, 0 FAIL, 0 SKIPPED\n"), "{said}");
    assert!(!said.contains("5551234567"), "{said}");

    let after = relay.status("acme").await["sessions"].clone();
    assert_eq!(
        (after.as_array().unwrap().len(), &after[0]["session"]),
        (1, &before[0]["session"]),
        "{after}"
    );
    assert!(!agent.process.log()[mark..].concat().contains("tunnel"), "{:#?}", agent.process.log());
}

#[tokio::test]
async fn all_checks_pass_without_an_agent_and_leave_no_agent_behind() {
    let (relay, site) = relay().await;
    let dir = one_recording();
    let report = check(&relay, &site, &AgentOptions::new(dir.path())).await;
    report.is_well();
    assert!(report.said("round_trip").contains("through the check's own tunnel"), "{report:?}");
    let status = relay.status("acme").await;
    assert_eq!(status["sessions"], json!([]), "{status}");
    let gone = search_with(&client(&relay), &site, CALL, &[]).await;
    assert_eq!(gone.status(), 503);
}

#[tokio::test]
async fn the_tunnel_of_a_check_answers_only_the_check() {
    // Checks without a pause need more tunnels per second than a site gets by default.
    let relay = Relay::start_with(&["--accept-rate", "1000"], true).await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let (client, met, over) = (client(&relay), AtomicBool::new(false), AtomicBool::new(false));
    // A client whose token was right gets the true reason, and at once, while no agent is connected.
    let mut agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    assert_eq!(search_with(&client, &site, CALL, &[]).await.status(), 200);
    agent.process.terminate();
    agent.process.wait().await;
    // Another client searches all the time, also at the moment when the check's tunnel is there.
    let another_client = async {
        while !over.load(Ordering::Relaxed) {
            let answer = search_with(&client, &site, CALL, &[]).await;
            assert_eq!(answer.status(), 503, "{answer:?}");
            if answer.text().await.unwrap().contains("only a check of its own") {
                met.store(true, Ordering::Relaxed);
            }
        }
    };
    let checks = async {
        while !met.load(Ordering::Relaxed) {
            check(&relay, &site, &AgentOptions::new(dir.path())).await.is_well();
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(another_client, checks);
}

#[tokio::test]
async fn a_site_key_that_is_wrong_or_revoked_and_a_site_that_is_disabled_are_distinguished() {
    let (relay, site) = relay().await;
    let dir = one_recording();
    let options = AgentOptions::new(dir.path());
    let elsewhere = Relay::start().await.add_site("acme", &[]).await;
    let wrong = Site { site_key: elsewhere.site_key, ..site.clone() };
    let unknown =
        ["refused for the site acme (401)", "may belong to another relay, or was revoked", "rotate-key"];
    let report = check(&relay, &wrong, &options).await;
    report.fails_at("site_key", &unknown);
    assert_eq!(report.said("round_trip"), "site key has to work first");

    relay.site_command(&["disable", "acme"]).await;
    relay.wait_for_status("acme", |status| status["state"] == "disabled").await;
    let disabled = ["the site acme is disabled (403)", "site enable"];
    check(&relay, &site, &options).await.fails_at("site_key", &disabled);

    relay.site_command(&["enable", "acme"]).await;
    relay.wait_for_status("acme", |status| status["state"] != "disabled").await;
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    relay.site_command(&["revoke-key", "acme"]).await;
    agent.process.wait_for_code("tunnel.refused").await;
    check(&relay, &site, &options).await.fails_at("site_key", &unknown);
}

#[tokio::test]
async fn an_agent_with_another_search_token_is_distinguished_from_a_broken_connection() {
    let (relay, site) = relay().await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let other = Site { search_token: "another-token-than-the-agents".to_owned(), ..site };
    let report = check(&relay, &other, &AgentOptions::new(dir.path())).await;
    report.fails_at("round_trip", &["the connected agent: 401", "the same search token"]);
}

#[tokio::test]
async fn recordings_that_this_user_may_not_read_are_reported_with_advice() {
    if !rustix::process::geteuid().is_root() {
        return skip("a test with files of another user: only root can create them");
    }
    if !installed("setpriv") {
        return;
    }
    let (relay, site) = relay().await;
    let dir = one_recording();
    // The agent of another user sees this: root without its special rights.
    let powerless = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let options = || AgentOptions::new(dir.path()).started_by(&powerless);
    check(&relay, &site, &options()).await.is_well();

    let file = dir.path().join(format!("in-{CALL}.wav"));
    chown(&file, Some(NOBODY), None).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let report = check(&relay, &site, &options()).await;
    report.fails_at("sample_search", &["is found but cannot be read", "Permission denied", "chmod g+rX"]);

    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    chown(dir.path(), Some(NOBODY), None).unwrap();
    let report = check(&relay, &site, &options()).await;
    let root = dir.path().display().to_string();
    let said = report.fails_at("path", &[&root, "Permission denied", "add that user to the group"]);
    assert!(!said.contains(CALL), "{said}");
    assert_eq!(report.said("sample_search"), "path has to work first");
}

#[tokio::test]
async fn storage_that_is_missing_or_not_mounted_is_reported() {
    let (relay, site) = relay().await;
    let dir = one_recording();
    let missing = dir.path().join("nas");
    let report = check(&relay, &site, &AgentOptions::new(&missing)).await;
    report.fails_at("path", &[&missing.display().to_string(), "No such file or directory", "mount"]);

    let with_sentinel = AgentOptions::new(dir.path()).with(&["--sentinel", ".mounted"]);
    let report = check(&relay, &site, &with_sentinel).await;
    report.fails_at("sentinel", &[".mounted is not in", "probably not mounted", "mount the storage"]);

    fs::write(dir.path().join(".mounted"), "").unwrap();
    let report = check(&relay, &site, &with_sentinel).await;
    assert_eq!((report.code, report.said("sentinel")), (0, ".mounted exists".to_owned()));
}

#[tokio::test]
async fn directories_in_which_no_call_can_be_found_are_reported() {
    let (relay, site) = relay().await;
    let dir = TempDir::new().unwrap();
    let looked = async || check(&relay, &site, &AgentOptions::new(dir.path())).await;
    let empty = looked().await;
    empty.warns_at("recordings", &["there is no recording", "does the PBX record, and into this directory?"]);
    assert!(empty.said("round_trip").contains("there is no recording to fetch"), "{empty:?}");

    write(dir.path(), "5551234567-monday.wav", &wav(1.0, 1));
    let nameless = looked().await;
    let said =
        nameless.fails_at("sample_search", &["no file name of a recording contains a call id", "--call-id"]);
    assert!(said.contains("-monday.wav") && !said.contains("5551234567"), "{said}");

    fs::remove_file(dir.path().join("5551234567-monday.wav")).unwrap();
    let month_ago = SystemTime::now() - Duration::from_hours(30 * 24);
    write_at(dir.path(), format!("in-{CALL}.wav"), &wav(1.0, 1), month_ago);
    let quiet = looked().await;
    quiet.warns_at("recordings", &["1 recording; the newest is 30days", "does the PBX still record"]);
    assert!(quiet.said("round_trip").contains(CALL), "{quiet:?}");
}

#[tokio::test]
async fn recordings_outside_of_the_pattern_are_reported_with_their_place() {
    let (relay, site) = relay().await;
    let dir = TempDir::new().unwrap();
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let epoch = hour_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    write(dir.path(), format!("Monday/in-{epoch}.1.wav"), &wav(1.0, 1));
    let mut options = AgentOptions::new(dir.path()).with(&["--timezone", "UTC"]);
    options.paths = vec![format!("file:{}/%YY/%MM/%DD", dir.path().display())];
    let report = check(&relay, &site, &options).await;
    report.fails_at("sample_search", &["is in Monday", "does not find it", "compare --path"]);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_a_row_and_exit_code_2() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("agent.toml");
    fs::write(&file, "relay = [\"wss://relay.example.com\"]\nsitekey-file = \"/etc/key\"\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, said, err) = run("audiovault-agent", &["check", "--config", file], &[]).await;
    assert_eq!((code, err.as_str()), (2, ""), "{said}");
    assert!(said.starts_with("FAIL     configuration") && said.contains(file), "{said}");
    assert!(said.contains("sitekey-file") && said.contains("The configuration cannot be used."), "{said}");

    let (code, said, _) = run("audiovault-agent", &["check", "--json", "--config", file], &[]).await;
    let report = Report { code, json: serde_json::from_str(&said).unwrap() };
    assert!(report.said("configuration").contains("sitekey-file"), "{report:?}");
    let [first, rest @ ..] = &report.states()[..] else { panic!("{report:?}") };
    assert_eq!((report.code, *first), (2, ("configuration", "FAIL")));
    assert!(rest.iter().all(|(_, state)| *state == "SKIPPED"), "{report:?}");

    // A value that is well-formed but cannot be used is reported in the same way.
    let arguments =
        ["check", "--relay", "wss://relay.example.com", "--path", "file:/tmp", "--token", "long-one"];
    let (code, said, _) = run("audiovault-agent", &arguments, &[]).await;
    assert!(code == 2 && said.starts_with("FAIL     configuration"), "{said}");
    assert!(said.contains("--site-key-file"), "{said}");
}
