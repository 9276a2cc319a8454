//! What people see first: help, and one clear line when something is wrong.

use harness::{
    process::{Process, run},
    recordings::{wav, write},
    relay::Relay,
};
use serde_json::Value;

/// Runs a program that must refuse its configuration: exit code 2 and one line.
async fn refused(program: &str, arguments: &[&str], blamed: &str) {
    let (code, out, err) = run(program, arguments, &[]).await;
    assert_eq!(code, 2, "{arguments:?}: {err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{arguments:?}: {err}");
    assert!(err.contains(blamed), "{arguments:?} does not name {blamed:?}: {err}");
    assert_eq!(out, "");
}

#[tokio::test]
async fn help_reads_well() {
    for (program, commands) in [
        ("audiovault-agent", &["tunnel", "serve", "search", "get"][..]),
        ("audiovault-relay", &["serve", "site"]),
    ] {
        let (code, out, _) = run(program, &["--help"], &[]).await;
        assert_eq!(code, 0);
        for command in commands {
            assert!(out.contains(command), "{program} --help does not list {command}: {out}");
            let (code, out, _) = run(program, &[command, "--help"], &[]).await;
            assert!(code == 0 && out.contains("Usage:") && out.contains("--"), "{program} {command}: {out}");
        }
        let (code, out, _) = run(program, &["--version"], &[]).await;
        assert!(code == 0 && out.starts_with(program), "{out}");
    }
}

#[tokio::test]
async fn a_bad_configuration_of_a_relay_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("relay.db").display());
    let serve = ["serve", "--public-url", "https://relay.example.com", "--database", &database];
    let with = |more: &[&'static str]| [&serve[..], more].concat();
    refused("audiovault-relay", &["serve", "--database", &database], "--public-url").await;
    refused("audiovault-relay", &["serve", "--public-url", "relay", "--database", &database], "--public-url")
        .await;
    refused("audiovault-relay", &with(&["--bind", "nowhere"]), "--bind").await;
    refused("audiovault-relay", &with(&["--tls-bind", "127.0.0.1:0"]), "--tls-cert").await;
    refused("audiovault-relay", &with(&["--trusted-proxy", "many"]), "--trusted-proxy").await;
    refused("audiovault-relay", &with(&["--config", "/does/not/exist.toml"]), "/does/not/exist.toml").await;
    refused("audiovault-relay", &with(&["--no-such-flag"]), "--no-such-flag").await;
    refused("audiovault-relay", &["site", "add", "Not A Site", "--database", &database], "Not A Site").await;
}

#[tokio::test]
async fn a_bad_configuration_of_an_agent_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("site.key");
    std::fs::write(&key, "not a key").unwrap();
    let key = key.to_str().unwrap();
    let path = format!("file:{}", dir.path().display());
    let tunnel = ["tunnel", "--relay", "wss://relay.example.com", "--path", &path];
    let with = |more: &[&'static str]| [&tunnel[..], more].concat();
    refused("audiovault-agent", &with(&["--token", "long-enough"]), "--site-key-file").await;
    refused(
        "audiovault-agent",
        &[&tunnel[..], &["--token", "long-enough", "--site-key-file", key]].concat(),
        "site key",
    )
    .await;
    refused(
        "audiovault-agent",
        &with(&["--site-key-file", "/does/not/exist", "--token", "long-enough"]),
        "/does/not/exist",
    )
    .await;
    refused(
        "audiovault-agent",
        &["serve", "--token", "long-enough", "--path", "ftp:/x", "--public-url", "http://a"],
        "ftp:/x",
    )
    .await;
    refused(
        "audiovault-agent",
        &["search", "1711441902.17", "--path", &path, "--timezone", "Mars/Olympus"],
        "Mars/Olympus",
    )
    .await;
    refused("audiovault-agent", &["search", "400", "--path", &path], "400").await;
}

#[tokio::test]
async fn a_search_can_be_tried_and_a_recording_fetched_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let sound = wav(1.0, 1);
    write(dir.path(), "2024/03/26/in-1711441902.17.wav", &sound);
    let path = format!("file:{}/%YY/%MM/%DD", dir.path().display());
    let (code, out, err) =
        run("audiovault-agent", &["search", "1711441902.17", "--path", &path, "--timezone", "UTC"], &[])
            .await;
    assert!(code == 0 && out.contains("in-1711441902.17.wav") && out.contains("2024/03/26"), "{out}{err}");
    let (_, out, _) = run(
        "audiovault-agent",
        &["search", "1711441902.17", "--path", &path, "--timezone", "UTC", "--json"],
        &[],
    )
    .await;
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["files"][0]["filename"], "in-1711441902.17.wav", "{found}");
    let target = dir.path().join("fetched.wav");
    let fetch =
        ["get", "1711441902.17", "--path", &path, "--timezone", "UTC", "-o", target.to_str().unwrap()];
    let (code, _, err) = run("audiovault-agent", &fetch, &[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(std::fs::read(&target).unwrap() == sound);
    let (code, _, _) = run("audiovault-agent", &["search", "1711441902.18", "--path", &path], &[]).await;
    assert_eq!(code, 1, "nothing was found");
}

#[tokio::test]
async fn the_classic_audiovault_serves_without_any_relay() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "in-1711441902.17.wav", &wav(1.0, 1));
    let address = harness::address::free_address();
    let url = format!("http://{address}");
    let path = format!("file:{}", dir.path().display());
    let arguments = [
        "serve",
        "--bind-to",
        &address.to_string(),
        "--public-url",
        &url,
        "--path",
        &path,
        "--token",
        "classic-token",
    ];
    let mut classic = Process::start("audiovault-agent", &arguments.map(str::to_owned), &[]);
    classic.wait_for_code("listener.started").await;
    let client = reqwest::Client::new();
    let form = [("token", "classic-token"), ("callid", "1711441902.17")];
    let found: Value =
        client.post(format!("{url}/search/")).form(&form).send().await.unwrap().json().await.unwrap();
    let link = harness::client::first_link(&found);
    assert!(link.starts_with(&url), "{link}");
    let response = client.get(&link).header("range", "bytes=0-3").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.bytes().await.unwrap().as_ref()), (206, &b"RIFF"[..]));
    classic.terminate();
    assert_eq!(classic.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_new_site_comes_with_everything_its_people_need() {
    let relay = Relay::start().await;
    let added =
        relay.site_command(&["add", "acme-madrid", "--alias", "acme.example", "--note", "the first"]).await;
    let text = |name: &str| added[name].as_str().unwrap_or_else(|| panic!("{name} in {added}")).to_owned();
    assert_eq!(text("site"), "acme-madrid");
    assert!(text("site_key").starts_with("avk_acme-madrid_"));
    assert_eq!(text("search_url"), format!("{}/acme-madrid/search", relay.url()));
    assert!(text("agent_command").contains("audiovault-agent tunnel"));
    for key in [
        "audio.server=it.loway.app.queuemetrics.callListen.listeners.JsonListener",
        &format!("audio.jsonlistener.url={}", text("search_url")),
        &format!("audio.jsonlistener.searchtoken={}", text("search_token")),
        "audio.jsonlistener.method=POST",
        "audio.jsonlistener.verbose=",
        "audio.html5player=true",
    ] {
        assert!(text("queuemetrics").contains(key), "{key} in {}", text("queuemetrics"));
    }
    let shown = relay.site_command(&["show", "acme-madrid"]).await.to_string();
    assert!(!shown.contains(&text("search_token")) && !shown.contains(&text("site_key")), "shown once only");
    let collision = ["site", "add", "acme.example", "--database", &relay.database()];
    let (code, _, err) = run("audiovault-relay", &collision, &[]).await;
    assert!(code != 0 && err.trim_end().lines().count() == 1, "{err}");
}
