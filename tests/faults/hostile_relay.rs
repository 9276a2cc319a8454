//! A stolen relay: it holds the tunnel and sees the traffic. It can break its own tunnel and search with tokens that
//! pass through it; everything else must stay impossible.

use audiovault_protocol::{
    frame::Frame,
    http::context::Client,
    limits::MAX_MESSAGE_LEN,
    message::{RequestHead, ResetCode},
};
use bytes::Bytes;
use harness::process::has_code;
use harness::{
    agent::{Agent, AgentOptions},
    agent_audit_log::AgentAuditLog,
    matrix,
    raw_peer::{RawPeer, RawRelay, bytes, id, welcome},
    recordings::CALL,
    relay::Relay,
};
use http::HeaderMap;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::setting::{Setting, resident};

/// An agent that dials a stolen relay. The honest one only makes the secrets of the site.
struct Stolen {
    setting: Setting,
    relay: RawRelay,
    agent: Agent,
    record: AgentAuditLog,
    _records: TempDir,
}

impl Stolen {
    async fn new() -> Self {
        Self::with_connections(1).await
    }

    /// The number of tunnels that the agent keeps, each with its own backoff.
    async fn with_connections(connections: usize) -> Self {
        let setting = Setting::new(Relay::start().await).await;
        let relay = RawRelay::start().await;
        let records = tempfile::tempdir().unwrap();
        let record = AgentAuditLog::in_directory(records.path());
        let options = AgentOptions::new(setting.recordings.path()).through(relay.url()).with(&record.flag());
        let options = options.with(&["--connections", &connections.to_string()]);
        let agent = Agent::spawn(&setting.relay, &setting.site, options);
        Self { setting, relay, agent, record, _records: records }
    }

    /// The query of a search, with the token that passes through every relay.
    fn search(&self) -> String {
        format!("/search?callid={CALL}&token={}", self.setting.site.search_token)
    }
}

fn request(target: &str) -> Box<RequestHead> {
    Box::new(RequestHead {
        request_id: "stolen".to_owned(),
        method: "GET".to_owned(),
        target: target.to_owned(),
        headers: HeaderMap::new(),
        deadline_ms: 12_000,
        client: Client::default(),
    })
}

/// Asks the agent. Returns the status and the visible body of the response.
async fn ask(peer: &mut RawPeer, number: u32, target: &str) -> (u16, String) {
    peer.frame(Frame::Request(id(number), request(target), Bytes::new())).await;
    let answered = |frame: &Frame| {
        let (stream, status, body) = match frame {
            Frame::Answer(stream, head, body) => (stream, head.status, &body[..]),
            Frame::Response(stream, head) => (stream, head.status, &[][..]),
            Frame::Reset(stream, code, _) => (stream, u16::from(*code), &[][..]),
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Goaway(_)
            | Frame::Status(_)
            | Frame::Request(..)
            | Frame::Data(..)
            | Frame::End(_)
            | Frame::Credit(..)
            | Frame::Unknown(_) => return None,
        };
        (stream.number() == number).then(|| (status, String::from_utf8_lossy(body).into_owned()))
    };
    peer.wait_for(answered).await
}

#[tokio::test]
async fn every_violation_of_a_relay_ends_its_tunnel_with_a_reason_and_the_others_continue() {
    let open = |number| Frame::Request(id(number), request("/search"), Bytes::new()).encode().to_vec();
    let violations: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("END", vec![bytes(0x13, 1, b"")], "wrong direction"),
        ("an id used again", vec![open(1), open(1)], "already used"),
        ("CREDIT for nothing", vec![bytes(0x15, 5, &[0, 0, 0, 1])], "never opened"),
        ("CREDIT without end", vec![open(1), bytes(0x15, 1, &[0xff; 4])], "credit"),
        ("CREDIT of nothing", vec![bytes(0x15, 1, &[0; 4])], "CREDIT"),
        ("WELCOME again", vec![Frame::Welcome(Box::new(welcome("x"))).encode().to_vec()], "second"),
        ("half a head", vec![bytes(0x10, 1, &[0, 0, 1, 0, b'{'])], "REQUEST"),
        ("a head that is no JSON", vec![bytes(0x10, 1, &[0, 0, 0, 1, b'{'])], "REQUEST"),
        ("a message that is too long", vec![vec![0x80; MAX_MESSAGE_LEN + 1]], "longer than"),
    ];
    let count = violations.len();
    // One tunnel for each: the backoff of a single one would grow to a minute.
    let stolen = Stolen::with_connections(count + 2).await;
    let mut honest = stolen.relay.welcome().await;
    assert_eq!(ask(&mut honest, 1, &stolen.search()).await.0, 200);
    let before = resident(&stolen.agent.process);
    for (what, frames, expected) in violations {
        let mark = stolen.agent.process.mark();
        let mut peer = stolen.relay.welcome().await;
        for frame in frames {
            peer.bytes(frame).await;
        }
        let closed = peer.closed().await;
        let code = if what == "a message that is too long" { 1009 } else { 4000 };
        assert!(closed.code == code && closed.reason.contains(expected), "{what}: {closed:?}");
        // The relay must close the connection (RFC 6455, section 7.1.1).
        drop(peer);
        let line = stolen.agent.process.wait_for_after(mark, expected).await;
        assert!(has_code(&line, "tunnel.ended"), "{what}: {line}");
    }
    let mut peer = stolen.relay.accept().await;
    peer.bytes(bytes(0x10, 1, &[0; 4])).await;
    let closed = peer.closed().await;
    assert_eq!(closed.code, 4000, "REQUEST before WELCOME: {closed:?}");
    let grown = resident(&stolen.agent.process).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    assert_eq!(ask(&mut honest, 2, &stolen.search()).await.0, 200, "other tunnels continue");
    let promise = "the tunnel ends with a code and a reason, the other tunnels continue";
    let measured = format!("{} of {} ended, {} kB more resident memory", count + 1, count + 1, grown / 1000);
    matrix::row("hostile relay", "every violation of the protocol", promise, measured);
}

#[tokio::test]
async fn a_flood_of_requests_that_are_reset_uses_bounded_memory() {
    let stolen = Stolen::new().await;
    let mut peer = stolen.relay.welcome().await;
    assert_eq!(ask(&mut peer, 1, &stolen.search()).await.0, 200);
    let before = resident(&stolen.agent.process);
    let target = stolen.search();
    for number in 2..10_000 {
        peer.frame(Frame::Request(id(number), request(&target), Bytes::new())).await;
        peer.frame(Frame::Reset(id(number), ResetCode::Cancelled, String::new())).await;
        if number % 10 == 0 {
            peer.message(Message::Ping(Bytes::from_static(b"x"))).await;
        }
    }
    assert_eq!(ask(&mut peer, 10_001, &target).await.0, 200, "it continues to serve");
    let grown = resident(&stolen.agent.process).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    let promise = "memory stays bounded, the agent continues to serve";
    let measured = format!("9,998 requests reset, {} kB more resident memory", grown / 1000);
    matrix::row("hostile relay", "rapid reset", promise, measured);
}

#[tokio::test]
async fn a_stolen_relay_opens_nothing_that_no_search_returned_and_forges_no_link() {
    let stolen = Stolen::new().await;
    let mut peer = stolen.relay.welcome().await;
    let (status, found) = ask(&mut peer, 1, &stolen.search()).await;
    assert_eq!(status, 200, "it can search with a token that it saw");
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let url = found["files"][0]["url"].as_str().unwrap();
    let link = &url[url.find("/recordings/").unwrap()..];
    assert_eq!(ask(&mut peer, 2, link).await.0, 200, "a link from a search opens");
    let (token, name) = link["/recordings/".len()..].split_once('/').unwrap();
    let mut number = 2;
    for at in 0..token.len() {
        let mut forged = token.as_bytes().to_vec();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        number += 1;
        let (status, _) = ask(&mut peer, number, &format!("/recordings/{forged}/{name}")).await;
        // The last symbol of base64 may have bits without a meaning; a change of these makes no other token.
        assert!(matches!(status, 403 | 410), "a byte changed at {at}: {status}");
    }
    for wrong in ["/search?callid=1711441902.17", "/search?callid=1711441902.17&token=guessed-token-0000"] {
        number += 1;
        assert_eq!(ask(&mut peer, number, wrong).await.0, 401, "{wrong}");
    }
    let promise = "it can search with the tokens that it sees; no link with a changed byte opens";
    matrix::row("hostile relay", "stolen, forges links", promise, format!("0 of {} opened", token.len()));
}

#[tokio::test]
async fn a_stolen_relay_reaches_no_other_route_and_no_file_by_its_path() {
    let stolen = Stolen::new().await;
    let mut peer = stolen.relay.welcome().await;
    let file = format!("in-{CALL}.wav");
    let targets = [
        "/".to_owned(),
        "/metrics".to_owned(),
        "/healthz".to_owned(),
        "/admin".to_owned(),
        "/config".to_owned(),
        format!("/{file}"),
        format!("/recordings/{file}"),
        format!("/recordings/../{file}"),
        format!("/recordings/x/{file}"),
        "/recordings/..%2f..%2f..%2fetc%2fpasswd/recording.wav".to_owned(),
        "/recordings/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/../../../../etc/passwd".to_owned(),
        "//etc/passwd".to_owned(),
        "/search/../../etc/passwd".to_owned(),
    ];
    for (number, target) in (1..).zip(&targets) {
        let (status, body) = ask(&mut peer, number, target).await;
        assert!(matches!(status, 403 | 404), "{target}: {status} {body}");
        assert!(!body.contains("root:"), "{target}: {body}");
    }
    let nonsense = ["no-slash", "http://169.254.169.254/latest", "/with space"];
    for (number, target) in (100..).zip(nonsense) {
        let (status, _) = ask(&mut peer, number, target).await;
        assert!(matches!(status, 6 | 404), "{target}: {status}");
    }
    let promise = "403 or 404 for everything but searches and links";
    let measured = format!("{} of {} refused", targets.len() + 3, targets.len() + 3);
    matrix::row("hostile relay", "stolen, asks for other routes and paths", promise, measured);
}

#[tokio::test]
async fn a_stolen_relay_cannot_hide_from_the_audit_log_of_the_agent() {
    let stolen = Stolen::new().await;
    let mut peer = stolen.relay.welcome().await;
    assert_eq!(ask(&mut peer, 1, &stolen.search()).await.0, 200);
    let lines = stolen.record.wait_for(1).await;
    assert!(lines.iter().any(|line| line.to_string().contains(CALL)), "{lines:?}");
    let promise = "its searches are in the audit log of the agent";
    matrix::row("hostile relay", "stolen, searches in secret", promise, "in the audit log");
}
