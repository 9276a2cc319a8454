//! The metrics for Prometheus, in both formats, read by Prometheus's own tool.

use std::process::Stdio;

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, search},
    process::skip,
    recordings::{CALL, one_recording},
    relay::Relay,
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, VARY};
use tokio::{io::AsyncWriteExt, process::Command};

/// The request header of Prometheus 3.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

async fn figures(relay: &Relay, accept: Option<&str>) -> (String, String) {
    let url = format!("{}/metrics", relay.admin_url());
    let mut request = reqwest::Client::new().get(url).bearer_auth(relay.token().await);
    if let Some(accept) = accept {
        request = request.header(ACCEPT, accept);
    }
    let answer = request.send().await.unwrap();
    let vary = answer.headers().get_all(VARY);
    assert!(vary.iter().any(|value| value.to_str().unwrap().to_ascii_lowercase().contains("accept")));
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    (kind, answer.text().await.unwrap())
}

/// Runs promtool; `None`, recorded as skipped, if it is not installed.
async fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let started = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = started else {
        skip("metrics read by promtool: it is not installed; tests/run installs it");
        return None;
    };
    tool.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = tool.wait_with_output().await.unwrap();
    let printed =
        [output.stdout, output.stderr].map(|printed| String::from_utf8_lossy(&printed).into_owned()).concat();
    Some((output.status.success(), printed))
}

#[tokio::test]
async fn figures_come_in_the_format_that_is_asked_for_and_both_can_be_read() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    search(&client(&relay), &site, CALL, &[]).await;

    for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
        let (kind, text) = figures(&relay, accept).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{accept:?}");
        assert!(text.contains("\n# TYPE audiovault_relay_searches_total counter\n"), "{text}");
        let Some((success, printed)) = promtool(&["check", "metrics"], &text).await else { return };
        assert!(success, "{printed}");
    }

    let (kind, open_metrics) = figures(&relay, Some(PROMETHEUS)).await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open_metrics.contains("\n# TYPE audiovault_relay_searches counter\n"), "{open_metrics}");
    assert!(open_metrics.ends_with("# EOF\n"), "{open_metrics}");
    // The tool reads OpenMetrics only with timestamps.
    let stamp =
        |line: &str| if line.starts_with('#') { format!("{line}\n") } else { format!("{line} 1711441902\n") };
    let with_times: String = open_metrics.lines().map(stamp).collect();
    let (file, blocks) = (dir.path().join("figures"), dir.path().join("blocks"));
    std::fs::write(&file, with_times).unwrap();
    let [file, blocks] = [&file, &blocks].map(|path| path.to_str().unwrap());
    let arguments = ["tsdb", "create-blocks-from", "openmetrics", file, blocks];
    let (success, printed) = promtool(&arguments, "").await.unwrap();
    assert!(success, "{printed}");
}
