//! What operators read is compressed; secrets and recordings are not.

use std::process::Stdio;

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, first_link, search},
    operator::{Api, Operator},
    recordings::{CALL, one_recording},
    relay::Relay,
};
use reqwest::{
    Method, RequestBuilder, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY},
};
use tokio::{io::AsyncWriteExt, process::Command};

async fn asked(request: RequestBuilder) -> Response {
    request.header(ACCEPT_ENCODING, "gzip, deflate, br, zstd").send().await.unwrap()
}

fn is_compressed(response: &Response) -> bool {
    response.headers().get(CONTENT_ENCODING).is_some()
}

async fn gunzip(bytes: &[u8]) -> String {
    let mut gzip =
        Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let written = tokio::spawn(async move { stdin.write_all(&bytes).await });
    let output = gzip.wait_with_output().await.unwrap();
    written.await.unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn pages_figures_and_lists_are_compressed_and_say_the_same() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    relay.add_user("maria", &["--role", "admin", "--playback"]).await;
    let queuemetrics = client(&relay);
    for _ in 0..100 {
        search(&queuemetrics, &site, CALL, &[]).await;
    }
    relay.audit(100).await;
    let maria = Operator::log_in(&relay, "maria").await;
    for path in ["/", "/audit", "/audit.csv", "/sites/acme", "/metrics", "/api/v1/audit", "/assets/app.css"] {
        let plain = maria.request(Method::GET, path).send().await.unwrap();
        assert!(!is_compressed(&plain), "{path} is not asked for compressed");
        let kind = plain.headers()[CONTENT_TYPE].clone();
        let plain = plain.text().await.unwrap();
        let packed = asked(maria.request(Method::GET, path)).await;
        let headers = packed.headers().clone();
        assert_eq!(
            (&headers[CONTENT_ENCODING], &headers[CONTENT_TYPE]),
            (&"gzip".parse().unwrap(), &kind),
            "{path}"
        );
        let vary =
            headers.get_all(VARY).iter().any(|vary| vary.to_str().unwrap().contains("accept-encoding"));
        assert!(vary, "{path}: {headers:?}");
        let packed = packed.bytes().await.unwrap();
        let whole = gunzip(&packed).await;
        assert_eq!(whole.lines().next(), plain.lines().next(), "{path}");
        assert_eq!(whole.lines().last(), plain.lines().last(), "{path}");
        if path == "/audit" {
            assert!(packed.len() * 5 < plain.len(), "{} of {} bytes", packed.len(), plain.len());
            harness::matrix::figure(&format!("/audit: {} bytes, compressed {}", plain.len(), packed.len()));
        }
    }
}

#[tokio::test]
async fn secrets_and_recordings_go_out_as_they_are() {
    let relay = Relay::start().await;
    let link = relay.process().wait_for_code("user.none_yet").await;
    let link = link.split("link=\"").nth(1).and_then(|link| link.split('"').next()).unwrap().to_owned();
    assert!(
        !is_compressed(&asked(reqwest::Client::new().get(&link)).await),
        "the address itself is the secret"
    );
    let site = relay.add_site("acme", &[]).await;
    let dir = one_recording();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    relay.add_user("maria", &["--role", "admin", "--playback"]).await;
    let maria = Operator::log_in(&relay, "maria").await;
    let csrf = maria.csrf().await;
    assert_ne!(csrf, maria.csrf().await, "every response has different letters of it");
    for (path, fields) in [
        ("/sites/new", &[("site", "madrid"), ("note", "")][..]),
        ("/sites/acme/keys", &[]),
        ("/sites/madrid/enrolment", &[]),
        ("/tokens", &[("name", "monitoring"), ("days", "90"), ("role", "viewer"), ("scope", "all")]),
    ] {
        let form: Vec<_> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        let answer = asked(maria.request(Method::POST, path).form(&form)).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(!is_compressed(&answer), "{path} shows a secret");
    }
    let api = Api::admin(&relay).await;
    let answer = asked(api.request(Method::POST, "/api/v1/sites/madrid/keys")).await;
    assert_eq!(answer.status(), 201);
    assert!(!is_compressed(&answer), "so does the answer to a program");
    let queuemetrics = client(&relay);
    let found = search(&queuemetrics, &site, CALL, &[]).await;
    assert!(!is_compressed(&asked(queuemetrics.get(first_link(&found))).await), "recordings");
}
