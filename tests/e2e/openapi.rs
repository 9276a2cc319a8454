//! The description of the API, compared with the API itself by schemathesis (PyPI), which makes up requests.

use std::{path::Path, time::Duration};

use harness::{operator::Api, process::artefacts, relay::Relay};
use tokio::process::Command;

/// Checks for which the API may refuse a request that fits the description: no pattern can express a time in the
/// past, a common password or a site that does not exist. The description says that these get 422.
const ACCOUNTS: &str = "^/api/v1/(users|tokens)(/|$)";
const NOT_ASKED: [&str; 2] = ["--exclude-checks", "positive_data_acceptance"];

/// The program learns names from lists, and would remove the token that it uses. So these operations are tested
/// separately, with made-up names.
const REMOVE_TOKEN: &str = "/api/v1/tokens/{name}";

/// Runs for a minute; the tests in `api` watch it.
const EVENTS: &str = "/api/v1/events";

/// How long thousands of made-up requests may take: five times as long as on a machine without other work.
const TRIAL: Duration = Duration::from_secs(200);

#[tokio::test]
async fn the_api_keeps_to_its_description_for_any_request() {
    let relay = Relay::start().await;
    relay.add_site("acme", &[]).await;
    let made = relay
        .command("token", &["add", "held-against-its-description", "--role", "admin", "--playback"])
        .await;
    let token = made["token"].as_str().unwrap();
    hold(&relay, token, &["--exclude-path-regex", ACCOUNTS, "--exclude-path", EVENTS]).await;
    let accounts = ["--include-path-regex", ACCOUNTS, "--exclude-path", REMOVE_TOKEN];
    hold(&relay, token, &[&accounts[..], &NOT_ASKED].concat()).await;
    hold(&relay, token, &[&["--include-path", REMOVE_TOKEN][..], &NOT_ASKED].concat()).await;
    assert_eq!(Api::new(&relay, token).get("/api/v1/me").await.0, 200, "the token was valid to the end");
    let log = relay.process().log().join("\n");
    assert!(!log.contains(" ERROR "), "{log}");
}

async fn hold(relay: &Relay, token: &str, which: &[&str]) {
    let program = artefacts("pypi/bin/st");
    assert!(Path::new(&program).exists(), "{}: run tests/run once", program.display());
    let directory = tempfile::tempdir().unwrap();
    let running = Command::new(program)
        .arg("run")
        .arg(format!("{}/api/openapi.json", relay.admin_url()))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", "all"])
        .args(["--generation-with-security-parameters", "false", "--max-examples", "50", "--no-color"])
        .args(["--generation-database", ":memory:"])
        .args(which)
        .current_dir(directory.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TRIAL, running).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("generated"), "requests were made up: {printed}");
}
