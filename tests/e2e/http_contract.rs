//! The public HTTP contract, which scripts depend on.

use std::net::SocketAddr;

use harness::{
    agent::{Agent, AgentOptions},
    client::{client, names, search, search_with, send},
    process::PATIENCE,
    recordings::{wav, write},
    relay::Relay,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const CALL: &str = "1711441902.17";

/// An error is problem+json; its request id is also in a header and in both logs.
async fn problem(response: Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let header = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["request_id"], header.as_str());
    assert_eq!(body["status"], status);
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{body}");
    header
}

#[tokio::test]
async fn a_search_may_be_asked_in_every_way() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &["Tenant.Example"]).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "in-1711441902.17.wav", &wav(2.0, 1));
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let (base, token) = (relay.url(), site.search_token.as_str());
    let query = [("token", token), ("callid", CALL)];
    let ways = [
        client.get(format!("{base}/acme/search")).query(&query),
        client.get(format!("{base}/acme/search/")).query(&query),
        client.post(format!("{base}/acme/search")).form(&query),
        client.post(format!("{base}/acme/search/")).json(&json!({"searchToken": token, "uniqueid": CALL})),
        client.get(format!("{base}/search?site=acme")).query(&query),
        client.post(format!("{base}/search?tenant=tenant.example")).form(&query),
        client.post(format!("{base}/search/?tenant=acme")).form(&query),
        client
            .post(format!("{base}/search"))
            .json(&json!({"site": "acme", "token": token, "asteriskid": CALL})),
        client
            .post(format!("{base}/acme/search?callid={CALL}"))
            .form(&[("token", token), ("start", "2024-03-26 08:31:42")]),
        client.get(format!("{base}/acme/search")).query(&query).query(&[("start", "1711441902000")]),
        client.get(format!("{base}/acme/search")).query(&query).query(&[("start", "2024-03-26T08:31:42Z")]),
        client.get(format!("{base}/acme/search")).query(&query).query(&[("unheard-of", "x")]),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let response = send(way).await;
        assert_eq!(response.status(), 200, "way {number}");
        let found: Value = response.json().await.unwrap();
        assert_eq!(names(&found), ["in-1711441902.17.wav"], "way {number}");
    }
}

#[tokio::test]
async fn a_search_response_has_everything_that_was_promised() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "in-1711441902.17.wav", &wav(2.0, 1));
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);
    let found = search(&client, &site, CALL, &[]).await;
    assert_eq!((&found["status"], &found["complete"]), (&json!("ok"), &json!(true)));
    let file = &found["files"][0];
    assert_eq!(file["filename"], "in-1711441902.17.wav");
    assert_eq!(file["size"], 44 + 2 * 16_000);
    assert_eq!(file["content_type"], "audio/wav");
    assert_eq!(file["duration"].as_f64(), Some(2.0));
    assert!(file["modified"].is_string() && file["expires"].is_string(), "{file}");
    let url = file["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{}/acme/recordings/", relay.url())) && url.ends_with(".wav"), "{url}");
    assert!(!url.contains("1711441902"), "no call data in an address: {url}");
    let nothing = search(&client, &site, "1711441902.18", &[]).await;
    assert_eq!(nothing, json!({"status": "ok", "complete": true, "files": []}));
}

#[tokio::test]
async fn every_error_says_what_is_wrong_and_has_its_id_in_both_logs() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let offline = relay.add_site("offline", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    let client = client(&relay);

    let id = problem(search_with(&client, &site, "400", &[]).await, 400).await;
    relay.process().wait_for(&id).await;
    agent.process.wait_for(&id).await;
    problem(search_with(&client, &site, "", &[]).await, 400).await;
    problem(search_with(&client, &site, CALL, &[("start", "yesterday")]).await, 400).await;
    let mut guesser = site.clone();
    guesser.search_token = "wrong".to_owned();
    problem(search_with(&client, &guesser, CALL, &[]).await, 401).await;
    problem(send(client.get(format!("{}?callid={CALL}", site.search_url))).await, 401).await;
    problem(send(client.get(format!("{}/nobody/search", relay.url()))).await, 401).await;
    problem(send(client.get(format!("{}/search?site=nobody", relay.url()))).await, 401).await;
    problem(send(client.get(format!("{}/search", relay.url()))).await, 400).await;
    problem(send(client.get(format!("{}/a/b/c/d", relay.url()))).await, 404).await;
    let put = send(client.request(Method::PUT, &site.search_url)).await;
    assert!(put.headers()["allow"].to_str().unwrap().contains("POST"));
    problem(put, 405).await;
    let large = "x".repeat(64 * 1024 + 1);
    problem(send(client.post(&site.search_url).body(large)).await, 413).await;
    problem(search_with(&client, &offline, CALL, &[]).await, 401).await;
    search(&client, &site, CALL, &[]).await;
    drop(agent);
    relay.wait_for_status("acme", |status| status["state"] == "down").await;
    let unreachable = search_with(&client, &site, CALL, &[]).await;
    assert!(unreachable.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    problem(unreachable, 503).await;
}

#[tokio::test]
async fn secrets_and_call_data_stay_out_of_the_logs() {
    let relay = Relay::start_with(&["--log-level", "debug"], false).await;
    let site = relay.add_site("acme", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "q-600-0034600111222-20240326-093142-1711441902.17.wav", &wav(0.5, 1));
    let options = AgentOptions::new(dir.path()).with(&["--log-level", "debug"]);
    let agent = Agent::start(&relay, &site, options).await;
    let client = client(&relay);
    let link = harness::client::first_link(&search(&client, &site, CALL, &[("user", "demoadmin")]).await);
    send(client.get(&link)).await.bytes().await.unwrap();
    let id = problem(search_with(&client, &site, "400", &[]).await, 400).await;
    relay.process().wait_for(&id).await;
    agent.process.wait_for(&id).await;
    let token = link.split('/').nth_back(1).unwrap().to_owned();
    let secret = site.site_key.rsplit('_').next().unwrap().to_owned();
    for line in relay.process().log().into_iter().chain(agent.process.log()) {
        for private in [&token, &secret, &site.search_token, "0034600111222"] {
            assert!(!line.contains(private), "{line}");
        }
    }
}

#[tokio::test]
async fn players_on_other_pages_are_allowed() {
    let relay = Relay::start_with(&["--allow-origin", "https://qm.example.com"], false).await;
    let site = relay.add_site("acme", &[]).await;
    let client = client(&relay);
    let preflight = client
        .request(Method::OPTIONS, &site.search_url)
        .header("origin", "https://qm.example.com")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "range");
    let response = send(preflight).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "https://qm.example.com");
    let response = send(client.get(&site.search_url).header("origin", "https://evil.example")).await;
    assert!(
        response
            .headers()
            .get("access-control-allow-origin")
            .is_none_or(|origin| origin != "https://evil.example")
    );
}

#[tokio::test]
async fn browsers_that_came_over_tls_must_stay_there() {
    let secure = Relay::start_tls().await;
    let off = Relay::start_with(&["--hsts-max-age", "off"], true).await;
    let plain = Relay::start_with(&["--hsts-max-age", "1h"], false).await;
    for (relay, reported) in [(&secure, Some("max-age=31536000")), (&off, None), (&plain, None)] {
        for path in ["/", "/nobody/search", "/nothing"] {
            let response = send(client(relay).get(format!("{}{path}", relay.url()))).await;
            let hsts = response.headers().get("strict-transport-security");
            assert_eq!(hsts.map(|hsts| hsts.to_str().unwrap()), reported, "{path}");
            if path == "/" {
                assert_eq!(response.headers()["x-frame-options"], "DENY");
            }
        }
    }
}

#[tokio::test]
async fn operators_see_health_and_state() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    assert_eq!(relay.admin("/healthz").await.0, 200);
    assert_eq!(relay.admin("/readyz").await.0, 200);
    relay.wait_for_status("acme", |status| status["state"] == "never_seen").await;
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent::start(&relay, &site, AgentOptions::new(dir.path())).await;
    search(&client(&relay), &site, CALL, &[]).await;
    let reported = |status: &Value| {
        status["sessions"][0]["rtt_ms"].is_number() && status["searches_last_hour"] == json!(1)
    };
    let status = relay.wait_for_status("acme", reported).await;
    assert_eq!((&status["state"], &status["errors_last_hour"]), (&json!("up"), &json!(0)));
    let session = &status["sessions"][0];
    assert_eq!(session["open_streams"], 0);
    assert!(
        session["bytes_received"].as_u64().unwrap() > 100 && session["agent_version"].is_string(),
        "{session}"
    );
}

/// The response of a server to a literal request, up to the end of its head.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        assert_ne!(timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0, "{request}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_is_refused() {
    let relay = Relay::start().await;
    let admin: SocketAddr = relay.admin_url().trim_start_matches("http://").parse().unwrap();
    for address in [relay.address, admin] {
        let asked = async |head: &str| raw(address, &format!("GET /healthz HTTP/1.1\r\n{head}\r\n")).await;
        for wrong in ["", "Host: a\r\nHost: b\r\n", "Host: a/b\r\n", "Host: user@a\r\n"] {
            let answer = asked(wrong).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{wrong:?}: {answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
        let answer = asked(&format!("Host: {address}\r\n")).await;
        assert!(!answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[tokio::test]
async fn a_search_says_which_methods_it_takes_and_refuses_what_is_too_long_before_it_is_sent() {
    let relay = Relay::start().await;
    let head = |method: &str, more: &str| {
        format!("{method} /acme/search HTTP/1.1\r\nHost: {}\r\n{more}\r\n", relay.address)
    };
    for method in ["HEAD", "PUT"] {
        let answer = raw(relay.address, &head(method, "")).await.to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 405 ") && answer.contains("\r\nallow: get, post\r\n"),
            "{answer}"
        );
    }
    relay.add_site("acme", &[]).await;
    let long = head("POST", "Expect: 100-continue\r\nContent-Length: 70000\r\n");
    let answer = raw(relay.address, &long).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "there is no 100 Continue before: {answer}");
}

#[tokio::test]
async fn a_handshake_whose_key_is_not_sixteen_bytes_is_refused() {
    let relay = Relay::start().await;
    let site = relay.add_site("acme", &[]).await;
    let asked = async |nonce: &str| {
        let (host, key) = (relay.address, &site.site_key);
        let request = format!(
            "GET /tunnel HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: audiovault-tunnel.v1\r\n\
             Sec-WebSocket-Key: {nonce}\r\n\r\n"
        );
        raw(relay.address, &request).await
    };
    for nonce in ["x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = asked(nonce).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{nonce}: {answer}");
    }
    let answer = asked("AAAAAAAAAAAAAAAAAAAAAA==").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}
