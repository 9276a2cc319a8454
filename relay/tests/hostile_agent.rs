//! A broken or hostile agent can only make its own site fail, and nothing else of the public side.

#![expect(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use audiovault_common::about::ShownVersion;
use audiovault_common::logging::{LogConfig, LogFormat};
use audiovault_protocol::{
    http::context::{Audit, RequestContext},
    identity::{
        signed_link::{LinkSecret, LinkSigner, LinkTarget},
        site::{SiteId, SiteKey},
    },
    limits::RELAY_DEADLINE,
    link::{AgentAnswer, AgentControl, AgentLink, Buffered, Counted, LinkState, Role, Socket, Traffic},
    message::{Hello, SUBPROTOCOL},
};
use audiovault_relay::{
    app::{
        Relay,
        config::{AdminListener, Hsts, RecordsConfig, ServeConfig},
    },
    limits::LimitsConfig,
    model::operator_events::Actor,
    public::AllowOrigin,
    store::{self, DatabaseUrl, IfMissing, NewSite},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest};

struct Place {
    _dir: tempfile::TempDir,
    _relay: Relay,
    address: SocketAddr,
    site: SiteId,
    signer: LinkSigner,
    control: AgentControl,
}

impl Place {
    /// A relay with one site. Its agent responds with `answer` after `delay`.
    async fn new(
        answer: fn(&RequestContext, &Request<Bytes>) -> Response<Full<Bytes>>,
        delay: Duration,
    ) -> Self {
        Self::with_fields(&[], answer, delay).await
    }

    /// A relay with one site. Its agent reports that it takes the search token in these fields.
    async fn with_fields(
        token_fields: &[&str],
        answer: fn(&RequestContext, &Request<Bytes>) -> Response<Full<Bytes>>,
        delay: Duration,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = DatabaseUrl::Sqlite(dir.path().join("relay.db"));
        let key = SiteKey::from_secret(SiteId::parse("acme").unwrap(), [5; 32]);
        let new =
            NewSite { site: key.site().clone(), note: String::new(), aliases: [].into(), key: key.digest() };
        store::open(&database, IfMissing::Create)
            .await
            .unwrap()
            .add_site(&Actor::command_line(), &new)
            .await
            .unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ServeConfig {
            plain: Some(any),
            tls: None,
            public_url: "https://relay.example.com".parse().unwrap(),
            database,
            admin: AdminListener::plain(any),
            trusted_proxies: Vec::new(),
            hsts: Hsts::default(),
            search_by_get: true,
            metrics_public: false,
            shown_version: ShownVersion::Shown,
            allow_origin: AllowOrigin::Any,
            log: LogConfig::new(LogFormat::Text, "info").unwrap(),
            drain_timeout: Duration::from_secs(1),
            limits: LimitsConfig::default(),
            cluster: None,
            records: RecordsConfig::default(),
        };
        let relay = Relay::start(config).await.unwrap();
        let address = relay.public_addrs()[0];
        let signer = LinkSigner::new(&LinkSecret::from_bytes([6; 32]));
        let agent = Peer { signer: &signer, token_fields };
        let control = connect(address, &key, agent, answer, delay).await;
        Self { _dir: dir, _relay: relay, address, site: key.site().clone(), signer, control }
    }

    fn link(&self) -> String {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        self.link_until(now + 3600)
    }

    fn link_until(&self, expires: u64) -> String {
        let target = LinkTarget {
            root: [0; 8],
            search_token: [0; 8],
            path: b"x.wav".to_vec(),
            call_id: String::new(),
            tenant: String::new(),
            user: String::new(),
        };
        let token = self.signer.mint(&self.site, &target, expires, [1; 12]).unwrap();
        format!("/acme/recordings/{token}/recording.wav")
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        let (mut sender, connection) = {
            let stream = TcpStream::connect(self.address).await.unwrap();
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap()
        };
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "relay").body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let headers = format!("{:?}", response.headers());
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, headers, String::from_utf8_lossy(&body).into_owned())
    }
}

/// What the agent reports about itself.
struct Peer<'a> {
    signer: &'a LinkSigner,
    token_fields: &'a [&'a str],
}

async fn connect(
    address: SocketAddr,
    key: &SiteKey,
    agent: Peer<'_>,
    answer: fn(&RequestContext, &Request<Bytes>) -> Response<Full<Bytes>>,
    delay: Duration,
) -> AgentControl {
    let mut request = format!("ws://{address}/tunnel").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {}", key.reveal()).parse().unwrap());
    headers.insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    let traffic = Arc::new(Traffic::default());
    let stream = TcpStream::connect(address).await.unwrap();
    let (upgraded, _) = client_async(request, stream).await.unwrap();
    let stream = Counted::new(Buffered::new(upgraded.into_inner()), Arc::clone(&traffic));
    // A relay sends nothing before HELLO.
    let socket = Socket::new(stream, Role::Client, Bytes::new());
    let hello = Hello {
        agent_version: "0".to_owned(),
        instance: "0011223344556677".to_owned(),
        slot: 0,
        link_key_id: agent.signer.key_id(),
        host: String::new(),
        os: String::new(),
        started_at: 0,
        tenants: Vec::new(),
        max_streams: 256,
        drains: false,
        token_fields: agent.token_fields.iter().map(|name| (*name).to_owned()).collect(),
    };
    let service = move |context: RequestContext, request: Request<Bytes>| async move {
        tokio::time::sleep(delay).await;
        let audit = Some(Audit { call_id: Some("private".to_owned()), ..Audit::default() });
        AgentAnswer { response: answer(&context, &request), audit, revocation: None }
    };
    let (link, control) = AgentLink::new(hello, service);
    tokio::spawn(link.run(socket, traffic));
    control.state().wait_for(|state| matches!(state, LinkState::Welcomed(_))).await.unwrap();
    control
}

fn typed(kind: &str, body: &'static str) -> Response<Full<Bytes>> {
    let response = Response::builder().header("content-type", kind).header("set-cookie", "a=b");
    response.body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn pages_and_scripts_of_an_agent_are_not_passed_on() {
    let place = Place::new(|_, _| typed("text/html", "<script>alert(1)</script>"), Duration::ZERO).await;
    for path in [place.link(), "/acme/search?callid=1711441902.17".to_owned()] {
        let (status, headers, body) = place.get(&path).await;
        assert_eq!(status, 502);
        assert!(!body.contains("script") && headers.contains("application/problem+json"), "{headers} {body}");
    }
}

#[tokio::test]
async fn sound_is_passed_on_with_the_relays_own_privacy_and_without_the_agents_extras() {
    let place = Place::new(|_, _| typed("audio/wav", "RIFF"), Duration::ZERO).await;
    let (status, headers, body) = place.get(&place.link()).await;
    assert_eq!((status, body.as_str()), (200, "RIFF"));
    assert!(headers.contains("\"content-security-policy\": \"sandbox\""), "{headers}");
    assert!(!headers.contains("set-cookie") && !headers.contains("private\""), "{headers}");
    let (status, ..) = place.get("/acme/search?callid=1711441902.17").await;
    assert_eq!(status, 502, "sound is no answer to a search");
}

/// A recording with the name and the type of a program.
fn disguised(_: &RequestContext, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let kind = if request.uri().query() == Some("odd") { "audio/x-msdownload" } else { "audio/wav" };
    let mut response = typed(kind, "MZ");
    let name = "inline; filename=\"Setup.exe\"; filename*=UTF-8''Setup%2Eexe";
    response.headers_mut().insert("content-disposition", name.parse().unwrap());
    response
}

#[tokio::test]
async fn a_program_is_not_delivered_as_one() {
    let place = Place::new(disguised, Duration::ZERO).await;
    let (_, headers, _) = place.get(&place.link()).await;
    assert!(headers.contains(r#""content-disposition": "inline; filename=\"Setup.exe.wav\"""#), "{headers}");
    let (status, headers, _) = place.get(&format!("{}?odd", place.link())).await;
    assert_eq!(status, 200);
    assert!(
        headers.contains(r#""content-disposition": "attachment; filename=\"Setup.exe.bin\"""#),
        "{headers}"
    );
    assert!(headers.contains("application/octet-stream") && !headers.contains("msdownload"), "{headers}");
}

/// Search responses for different call ids: most of them name addresses of other hosts or sites, or are not valid.
fn luring(_: &RequestContext, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    typed(
        "application/json",
        match request.uri().query() {
            Some("callid=1") => r#"{"files":[{"filename":"a.wav","url":"https://evil.example/a.wav"}]}"#,
            Some("callid=2") => r#"{"audio":["https://relay.example.com/other/recordings/a/b.wav"]}"#,
            Some("callid=3") => r#"{"files":[}"#,
            Some("callid=4") => r#"{"files":[{"filename":"x\u202evaw.exe","content_type":"audio/wav"}]}"#,
            _ => {
                r#"{"files": [{"url":"https://relay.example.com/acme/recordings/a/b.wav","duration":1.50}]}"#
            }
        },
    )
}

#[tokio::test]
async fn addresses_of_elsewhere_are_not_passed_on() {
    let place = Place::new(luring, Duration::ZERO).await;
    for call in 1..=3 {
        let (status, _, body) = place.get(&format!("/acme/search?callid={call}")).await;
        assert_eq!(status, 502, "{call}: {body}");
        assert!(!body.contains("evil.example"), "{body}");
    }
    let (status, _, body) = place.get("/acme/search?callid=4").await;
    assert_eq!(
        (status, body.as_str()),
        (200, r#"{"files":[{"content_type":"audio/wav","filename":"x_vaw.exe.wav"}]}"#)
    );
    // A correct response passes unchanged.
    let (status, _, body) = place.get("/acme/search?callid=5").await;
    let own = r#"{"files": [{"url":"https://relay.example.com/acme/recordings/a/b.wav","duration":1.50}]}"#;
    assert_eq!((status, body.as_str()), (200, own));
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let place = Place::new(
        |_, _| {
            let mut response = Response::new(Full::from(vec![b' '; 2 << 20]));
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            response
        },
        Duration::ZERO,
    )
    .await;
    assert_eq!(place.get("/acme/search?callid=1").await.0, 502);
}

#[tokio::test]
async fn what_crosses_is_cut_down_to_what_the_agent_needs() {
    let place = Place::new(
        |context, request| {
            let known = context.id.len() == 24
                && &*context.base == "https://relay.example.com/acme"
                && context.client.address.as_deref() == Some("127.0.0.1");
            let bare = request.uri() == "/search?callid=1" && !request.headers().contains_key("host");
            typed("application/json", if known && bare { "[1]" } else { "[0]" })
        },
        Duration::ZERO,
    )
    .await;
    assert_eq!(place.get("/acme/search?callid=1").await.2, "[1]");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_a_504() {
    let place = Place::new(|_, _| typed("application/json", "[]"), 10 * RELAY_DEADLINE).await;
    let (status, _, body) = place.get("/acme/search?callid=1").await;
    assert_eq!(status, 504, "{body}");
    assert_eq!(place.control.open_streams(), 0, "the agent got the request to stop");
}

/// An agent whose dialect file takes the search token as `apikey`, and uses the field `token` for something else.
fn in_a_dialect(_: &RequestContext, request: &Request<Bytes>) -> Response<Full<Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|field| field == "apikey=right") {
        return typed("application/json", "{}");
    }
    let mut denied = typed("application/problem+json", "{}");
    *denied.status_mut() = http::StatusCode::UNAUTHORIZED;
    denied
}

/// Sends 120 searches at once. Returns how many responses have each of these statuses.
async fn at_once(place: &Place, query: impl Fn(usize) -> String, statuses: [u16; 3]) -> [usize; 3] {
    let searches = (0..120).map(|n| {
        let path = format!("/acme/search?{}", query(n));
        async move { place.get(&path).await.0 }
    });
    let answers = futures_util::future::join_all(searches).await;
    statuses.map(|status| answers.iter().filter(|answer| **answer == status).count())
}

#[tokio::test]
async fn a_dialect_does_not_let_guesses_at_the_token_through() {
    for delay in [0, 50, 500].map(Duration::from_millis) {
        for fields in [&["apikey", "secret"][..], &[]] {
            let place = Place::with_fields(fields, in_a_dialect, delay).await;
            // Searches with the right token pass, all at once, even if each is sent for the first time.
            let right = |n| format!("apikey=right&token=1711441902.{n}");
            assert_eq!(at_once(&place, right, [200, 401, 429]).await, [120, 0, 0], "{fields:?} {delay:?}");
            // Wrong tokens, half of them with a value in the field `token` as well.
            let wrong = |n| match n % 2 {
                0 => format!("apikey=guess-{n}"),
                _ => format!("apikey=guess-{n}&token=1711441902.x"),
            };
            let [_, looked_at, throttled] = at_once(&place, wrong, [200, 401, 429]).await;
            assert!((10..=11).contains(&looked_at), "{looked_at} looked at: {fields:?} {delay:?}");
            assert_eq!(looked_at + throttled, 120);
        }
    }
}

/// An agent that refuses every link.
fn forged(_: &RequestContext, _: &Request<Bytes>) -> Response<Full<Bytes>> {
    let mut refused = typed("application/problem+json", "{}");
    *refused.status_mut() = http::StatusCode::FORBIDDEN;
    refused
}

#[tokio::test]
async fn forged_links_are_throttled() {
    let place = Place::new(forged, Duration::ZERO).await;
    let mut statuses = Vec::new();
    for _ in 0..100 {
        statuses.push(place.get(&place.link()).await.0);
    }
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert!((10..=12).contains(&count(403)), "{statuses:?}");
    assert_eq!(count(403) + count(429), 100, "{statuses:?}");
}

#[tokio::test]
async fn a_link_that_no_agent_makes_does_not_wake_the_site() {
    let place = Place::new(|_, _| typed("audio/wav", "RIFF"), Duration::ZERO).await;
    assert_eq!(place.get(&place.link_until(u64::MAX)).await.0, 403);
    assert_eq!(place.control.open_streams(), 0);
    assert_eq!(place.get(&place.link()).await.0, 200);
}
