//! An agent with a valid key that breaks every rule: it loses its tunnel with a reason, and no other site is
//! affected.

use audiovault_protocol::{
    frame::{Frame, StreamId},
    identity::{
        signed_link::{LinkSecret, LinkSigner, LinkTarget},
        site::SiteId,
    },
    limits::{INITIAL_WINDOW, MAX_DATA_LEN, MAX_HEAD_LEN, MAX_MESSAGE_LEN},
    message::{DriverStatus, Hello, ResetCode, ResponseHead, Status},
};
use bytes::Bytes;
use futures_util::StreamExt;
use harness::{
    agent::Agent,
    client::search_with,
    matrix,
    raw_peer::{Closed, RawPeer, bytes, hello, id},
    recordings::CALL,
    relay::{Relay, Site},
};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::setting::{Setting, resident};

/// An honest agent of another site, and a key for a hostile one.
async fn beside_an_honest_site() -> (Setting, Agent, Site) {
    // More tunnels per second than a site gets by default.
    let relay = Relay::start_with(&["--accept-rate", "1000"], false).await;
    let setting = Setting::new(relay).await;
    let agent = setting.agent().await;
    let hostile = setting.relay.add_site("hostile", &[]).await;
    (setting, agent, hostile)
}

fn head() -> Box<ResponseHead> {
    Box::new(ResponseHead { status: 200, headers: HeaderMap::new(), audit: None })
}

/// Mistakes in the first message of an agent.
fn wrong_greetings() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let long = format!("{{\"agent_version\":\"{}\"}}", "x".repeat(MAX_HEAD_LEN));
    vec![
        ("nothing", Vec::new(), "cut short"),
        ("half a header", vec![1, 0, 0], "cut short"),
        ("an unknown type", bytes(0x20, 0, b"{}"), "type"),
        ("another frame first", bytes(0x13, 1, b""), "before the greeting"),
        ("HELLO on a stream", bytes(0x01, 1, b"{}"), "stream"),
        ("HELLO that is no JSON", bytes(0x01, 0, b"{\"agent"), "HELLO"),
        ("HELLO without its members", bytes(0x01, 0, b"{}"), "HELLO"),
        ("HELLO that is too long", bytes(0x01, 0, long.as_bytes()), "more than"),
        ("a message that is too long", vec![0x80; MAX_MESSAGE_LEN + 1], "longer than"),
        ("deep JSON", bytes(0x01, 0, "[".repeat(30_000).as_bytes()), "HELLO"),
    ]
}

/// Mistakes after the HELLO of an agent.
fn wrong_frames() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let greeting = Frame::Hello(Box::new(hello())).encode().to_vec();
    vec![
        ("HELLO again", greeting, "second"),
        ("a frame of the relay's", bytes(0x15, 1, &[0, 0, 0, 1]), "wrong direction"),
        ("DATA without a request", bytes(0x12, 7, b"x"), "never opened"),
        ("RESPONSE without a request", Frame::Response(id(1), head()).encode().to_vec(), "never opened"),
        ("DATA without bytes", bytes(0x12, 1, b""), "DATA"),
        ("DATA on no stream", bytes(0x12, 0, b"x"), "stream"),
        ("DATA that is too long", bytes(0x12, 1, &[0; MAX_DATA_LEN + 1]), "more than"),
        ("END with a payload", bytes(0x13, 1, b"x"), "END"),
        ("RESET without a code", bytes(0x14, 1, b"x"), "cut short"),
        ("STATUS that is no JSON", bytes(0x04, 0, b"\xff\xfe"), "STATUS"),
    ]
}

/// Checks the end of a tunnel: a close code with the reason, one line in the log, other sites not affected.
async fn ends(setting: &Setting, peer: &mut RawPeer, (what, expected): (&str, &str), mark: usize) -> Closed {
    let closed = peer.closed().await;
    assert!(closed.reason.contains(expected), "{what}: {closed:?}");
    let line = setting.relay.process().wait_for_code_after(mark, "tunnel.violation").await;
    assert!(line.contains(expected) && line.contains("hostile"), "{what}: {line}");
    setting.search().await;
    closed
}

#[tokio::test]
async fn every_violation_ends_the_tunnel_with_a_reason_and_affects_no_other_site() {
    let (setting, _agent, hostile) = beside_an_honest_site().await;
    let (mut violations, before) = (0, resident(setting.relay.process()));
    for (what, bytes, expected) in wrong_greetings() {
        let mark = setting.relay.process().mark();
        let mut peer = RawPeer::agent(&setting.relay, &hostile).await;
        peer.bytes(bytes).await;
        let closed = ends(&setting, &mut peer, (what, expected), mark).await;
        let code = if what == "a message that is too long" { 1009 } else { 4000 };
        assert_eq!(closed.code, code, "{what}: {closed:?}");
        violations += 1;
    }
    for (what, bytes, expected) in wrong_frames() {
        let mark = setting.relay.process().mark();
        let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
        peer.bytes(bytes).await;
        let closed = ends(&setting, &mut peer, (what, expected), mark).await;
        assert_eq!(closed.code, 4000, "{what}: {closed:?}");
        violations += 1;
    }
    let mark = setting.relay.process().mark();
    let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
    peer.message(Message::text("{}")).await;
    let closed = ends(&setting, &mut peer, ("text", "binary"), mark).await;
    assert_eq!(closed.code, 1003, "{closed:?}");
    let mark = setting.relay.process().mark();
    let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
    // A text message of one byte that is not UTF-8, masked with zeros.
    peer.socket.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    let closed = ends(&setting, &mut peer, ("no UTF-8", "UTF-8"), mark).await;
    assert_eq!(closed.code, 1007, "{closed:?}");
    let mark = setting.relay.process().mark();
    let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
    // FIN and RSV1: a compressed message (RFC 7692), masked with zeros.
    peer.socket.get_mut().write_all(&[0xc2, 0x81, 0, 0, 0, 0, 0x80]).await.unwrap();
    let closed = ends(&setting, &mut peer, ("compressed", "WebSocket"), mark).await;
    assert_eq!(closed.code, 1002, "{closed:?}");
    let grown = resident(setting.relay.process()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    let promise = "the tunnel ends with a code and a reason, one line in the log, other sites are served";
    let measured =
        format!("{} of {} ended, {} kB more resident memory", violations + 3, violations + 3, grown / 1000);
    matrix::row("hostile agent", "every violation of the protocol", promise, measured);
}

/// Sends a search to the hostile site, and passes its frames to the test that plays the agent.
async fn answered_by(
    setting: &Setting,
    hostile: &Site,
    peer: &mut RawPeer,
    answer: impl AsyncFnOnce(&mut RawPeer, StreamId),
) -> u16 {
    let search = search_with(&setting.client, hostile, CALL, &[]);
    let (response, ()) = tokio::join!(search, async {
        let asked = |frame: &Frame| if let Frame::Request(stream, ..) = frame { Some(*stream) } else { None };
        let stream = peer.wait_for(asked).await;
        answer(peer, stream).await;
    });
    response.status().as_u16()
}

/// A link of a hostile site, and the HELLO of the agent that can open it.
fn link_of(setting: &Setting, site: &Site) -> (String, Hello) {
    let signer = LinkSigner::new(&LinkSecret::from_bytes([6; 32]));
    let target = LinkTarget {
        root: [0; 8],
        search_token: [0; 8],
        path: b"x.wav".to_vec(),
        call_id: String::new(),
        tenant: String::new(),
        user: String::new(),
    };
    let expires = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 3600;
    let token = signer.mint(&SiteId::parse(&site.name).unwrap(), &target, expires, [1; 12]).unwrap();
    let url = format!("{}/{}/recordings/{token}/recording.wav", setting.relay.url(), site.name);
    (url, Hello { link_key_id: signer.key_id(), ..hello() })
}

#[tokio::test]
async fn an_agent_that_sends_more_than_its_credit_loses_the_tunnel() {
    let (setting, _agent, hostile) = beside_an_honest_site().await;
    let mark = setting.relay.process().mark();
    let (link, introduction) = link_of(&setting, &hostile);
    let mut peer = RawPeer::greeted_as(&setting.relay, &hostile, introduction).await;
    let (response, ()) = tokio::join!(setting.client.get(link).send(), async {
        let asked = |frame: &Frame| if let Frame::Request(stream, ..) = frame { Some(*stream) } else { None };
        let stream = peer.wait_for(asked).await;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("audio/wav"))]);
        let head = ResponseHead { status: 200, headers, audit: None };
        peer.frame(Frame::Response(stream, Box::new(head))).await;
        // Many windows at once, to a listener who has paused.
        for _ in 0..64 * INITIAL_WINDOW as usize / MAX_DATA_LEN {
            peer.frame(Frame::Data(stream, Bytes::from(vec![b' '; MAX_DATA_LEN]))).await;
        }
    });
    assert_eq!(response.unwrap().status(), 200, "the head arrived before");
    let closed = ends(&setting, &mut peer, ("credit", "more than its credit"), mark).await;
    assert_eq!(closed.code, 4001);
    matrix::row("hostile agent", "sends more than its credit", "4001, other sites are served", "as promised");
}

#[tokio::test]
async fn floods_of_an_agent_use_bounded_memory_and_affect_no_other_site() {
    let (setting, _agent, hostile) = beside_an_honest_site().await;
    let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
    let before = resident(setting.relay.process());
    let flood = async {
        for n in 0..40_000u32 {
            let message = match n % 4 {
                0 => Message::Ping(Bytes::from_static(&[7; 125])),
                1 => Message::Pong(Bytes::from_static(&[7; 125])),
                2 => Message::Binary(bytes(0x99, n, &[0; 1000]).into()),
                _ => Message::Binary(Frame::Status(Status::default()).encode()),
            };
            peer.message(message).await;
        }
    };
    let searches = async {
        for _ in 0..40 {
            setting.search().await;
        }
    };
    tokio::join!(flood, searches);
    let grown = resident(setting.relay.process()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    let promise = "memory stays bounded, no search of another site fails";
    let measured = format!("40,000 frames, {} kB more resident memory", grown / 1000);
    matrix::row("hostile agent", "flood of pings, STATUS and frames of a later version", promise, measured);
}

#[tokio::test]
async fn an_agent_that_is_silent_or_very_slow_is_disconnected() {
    let (setting, _agent, hostile) = beside_an_honest_site().await;
    let mut mute = RawPeer::agent(&setting.relay, &hostile).await;
    let mut dripping = RawPeer::agent(&setting.relay, &hostile).await;
    let drip = async {
        // The header of a message of 100 bytes, and then one byte at a time.
        let stream = dripping.socket.get_mut();
        let _ = stream.write_all(&[0x82, 0x80 | 100, 0, 0, 0, 0]).await;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            if stream.write_all(&[1]).await.is_err() {
                return;
            }
        }
    };
    let (closed, ()) = tokio::join!(mute.closed(), drip);
    assert_eq!(closed.code, 4004, "{closed:?}");
    setting.search().await;
    let promise = "4004 after 10 s without HELLO, even if bytes arrive";
    matrix::row("hostile agent", "silent, or one byte every half second", promise, "as promised");
}

#[tokio::test]
async fn an_agent_that_resets_requests_affects_only_its_own_site() {
    let (setting, _agent, hostile) = beside_an_honest_site().await;
    let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
    for _ in 0..20 {
        let status = answered_by(&setting, &hostile, &mut peer, async |peer, stream| {
            peer.frame(Frame::Reset(stream, ResetCode::ReadFailed, "x\r\ny".to_owned())).await;
        })
        .await;
        assert_eq!(status, 502);
        setting.search().await;
    }
    let log = setting.relay.process().log();
    assert!(!log.iter().any(|line| line.starts_with('y')), "its text must not start a line");
    matrix::row(
        "hostile agent",
        "resets every request",
        "502 for its site, its text breaks no line of the log",
        "as promised",
    );
}

/// Search responses that would send the client to another host.
const LURES: [&str; 4] = [
    r#"{"files":[{"filename":"a.wav","url":"https://evil.example/a.wav"}]}"#,
    r#"{"files":[{"filename":"a.wav","url":"recording.wav"}]}"#,
    r#"{"recordings":[["//evil.example/a.wav"]]}"#,
    r#"{"play":"javascript:alert(document.domain)"}"#,
];

#[tokio::test]
async fn no_link_of_an_agent_leads_away_from_its_site() {
    let (setting, _agent, hostile) = beside_an_honest_site().await;
    let mut peer = RawPeer::greeted_agent(&setting.relay, &hostile).await;
    for lure in LURES {
        let mark = setting.relay.process().mark();
        let status = answered_by(&setting, &hostile, &mut peer, async |peer, stream| {
            let headers =
                HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
            let head = ResponseHead { status: 200, headers, audit: None };
            peer.frame(Frame::Answer(stream, Box::new(head), Bytes::from_static(lure.as_bytes()))).await;
        })
        .await;
        assert_eq!(status, 502, "{lure}");
        setting.relay.process().wait_for_after(mark, "is not passed on").await;
    }
    setting.search().await;
    matrix::row(
        "hostile agent",
        "answers a search with links to other hosts",
        "502 for its site, and one line in the log for each",
        format!("{} of {} refused", LURES.len(), LURES.len()),
    );
}

/// Texts and lists of a HELLO that is as long as a frame may be, and uses as much memory as possible for that length.
fn longest_greetings() -> [Hello; 3] {
    [
        Hello { tenants: vec![String::new(); 10_500], ..hello() },
        Hello { tenants: (0..4_000).map(|number| format!("t{number}")).collect(), ..hello() },
        Hello { host: "h".repeat(30_000), ..hello() },
    ]
}

fn longest_status() -> Status {
    let driver =
        DriverStatus { pattern: "p".to_owned(), problem: Some("p".to_owned()), ..DriverStatus::default() };
    Status { drivers: vec![driver; 500], problems: vec!["p".to_owned(); 1_000] }
}

/// A frame of the greatest length with nothing to keep: a later version may have such members.
fn padded(kind: u8, mut members: Value) -> Vec<u8> {
    members["later"] = "x".repeat(30_000).into();
    bytes(kind, 0, &serde_json::to_vec(&members).unwrap())
}

/// Connects agents of one site, and waits until the relay has read the HELLO and the STATUS of each.
async fn connect(
    setting: &Setting,
    site: &Site,
    introductions: impl Iterator<Item = [Vec<u8>; 2]>,
) -> Vec<RawPeer> {
    let mut peers = Vec::new();
    for [hello, status] in introductions {
        let mut peer = RawPeer::agent(&setting.relay, site).await;
        peer.bytes(hello).await;
        peer.wait_for(|frame| matches!(frame, Frame::Welcome(_)).then_some(())).await;
        peer.bytes(status).await;
        peer.message(Message::Ping(Bytes::new())).await;
        while !matches!(peer.socket.next().await, Some(Ok(Message::Pong(_)))) {}
        peers.push(peer);
    }
    peers
}

/// Memory that the relay may keep of an agent's texts, in bytes.
const MOST_KEPT: u64 = 32 * 1024;

#[tokio::test]
async fn the_longest_texts_of_an_agent_use_little_memory() {
    const TUNNELS: u64 = 90;
    let arguments = ["--max-site-tunnels", "1000", "--max-site-agents", "1000", "--accept-rate", "2000"];
    let setting = Setting::new(Relay::start_with(&arguments, false).await).await;
    let hostile = setting.relay.add_site("hostile", &[]).await;
    let named = |number: u64, hello: &Hello| Hello { instance: format!("{number:016x}"), ..hello.clone() };
    let plain =
        |number: u64| [padded(0x01, json!(named(number, &hello()))), padded(0x04, json!(Status::default()))];
    // Memory that is needed once is allocated after the first agents.
    let first = connect(&setting, &hostile, (0..TUNNELS).map(plain)).await;
    let before = resident(setting.relay.process());
    let second = connect(&setting, &hostile, (TUNNELS..2 * TUNNELS).map(plain)).await;
    let between = resident(setting.relay.process());
    let longest = longest_greetings();
    let full = |number: u64| {
        let hello = named(number, &longest[usize::try_from(number).unwrap() % longest.len()]);
        [Frame::Hello(Box::new(hello)).encode().to_vec(), Frame::Status(longest_status()).encode().to_vec()]
    };
    let third = connect(&setting, &hostile, (2 * TUNNELS..3 * TUNNELS).map(full)).await;
    let after = resident(setting.relay.process());
    let usual = between.saturating_sub(before);
    let more = (after - between).saturating_sub(usual) / TUNNELS;
    assert!(more <= MOST_KEPT, "{more} bytes more than {} for each tunnel", usual / TUNNELS);
    let status = setting.relay.wait_for_status("hostile", |_| true).await;
    let hosts = status["sessions"].as_array().unwrap().iter().filter_map(|session| session["host"].as_str());
    assert_eq!(hosts.map(str::len).max(), Some(253), "as it is shown and written to the database");
    drop((first, second, third));
    let promise = "the relay keeps at most 32 KiB of them, and 253 bytes of a host name";
    matrix::row(
        "hostile agent",
        "HELLO and STATUS of the greatest length",
        promise,
        format!("{more} bytes kept"),
    );
}
