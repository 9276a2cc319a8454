//! Tests of `serve` over real sockets.

use std::io;

use audiovault_agent_core::pattern::Pattern;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::*;
use crate::{
    audit::AuditLogSettings,
    testing::{put, settings as service, wav},
};

fn settings(dir: &TempDir) -> ServeSettings {
    let pattern = Pattern::parse(&format!("file:{}", dir.path().display())).unwrap();
    ServeSettings {
        service: service(pattern),
        bind_to: "127.0.0.1:0".to_owned(),
        public_url: None,
        tls: None,
        origins: Origins::Any,
        shown_version: ShownVersion::Shown,
        max_connections: 100,
        max_client_connections: 100,
    }
}

async fn get(address: SocketAddr, url: &str) -> Response<Incoming> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let path = url.strip_prefix(&format!("http://{address}")).unwrap_or(url);
    let request = Request::get(path).header("host", "x").header("origin", "https://qm.example");
    client.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap()
}

async fn first_link(running: &Running) -> String {
    let found = get(running.address(), "/search?token=master-token&callid=1711444502.17").await;
    let found = found.into_body().collect().await.unwrap().to_bytes();
    let found: serde_json::Value = serde_json::from_slice(&found).unwrap();
    found["files"][0]["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_opens_the_address_sees_what_answers_there() {
    let dir = TempDir::new().unwrap();
    let hidden = ServeSettings { shown_version: ShownVersion::Hidden, ..settings(&dir) };
    for (settings, is_shown) in [(settings(&dir), true), (hidden, false)] {
        let running = start(settings).await.unwrap();
        let page = get(running.address(), "/").await;
        assert_eq!(page.status(), 200);
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        let page = page.into_body().collect().await.unwrap().to_bytes();
        let page = String::from_utf8(page.to_vec()).unwrap();
        assert!(page.contains("AudioVault") && page.contains("audiovault-agent"), "{page}");
        assert_eq!(page.contains(env!("CARGO_PKG_VERSION")), is_shown, "{page}");
        assert_eq!(get(running.address(), "/other").await.status(), 404);
        running.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_search_and_its_link_work_on_a_local_port() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("1711444502.17.wav"), &wav(1));
    let running = start(settings(&dir)).await.unwrap();
    let link = first_link(&running).await;
    assert!(link.starts_with(&format!("http://{}/recordings/", running.address())), "{link}");
    let played = get(running.address(), &link).await;
    assert_eq!(played.headers()["access-control-allow-origin"], "*");
    let exposed = played.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("content-range") && exposed.contains("x-request-id"));
    assert!(played.into_body().collect().await.unwrap().to_bytes() == wav(1));
    running.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn wrong_tokens_at_the_local_port_are_throttled() {
    let dir = TempDir::new().unwrap();
    let running = start(settings(&dir)).await.unwrap();
    let mut statuses = Vec::new();
    for n in 0..50 {
        let path = format!("/search?callid=1711444502.17&token=guess-{n}");
        statuses.push(get(running.address(), &path).await.status().as_u16());
    }
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    assert!((10..=11).contains(&looked_at), "{statuses:?}");
    assert!(statuses[12..].contains(&429), "{statuses:?}");
    running.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_running_download_finishes_after_the_shutdown_began() {
    let dir = TempDir::new().unwrap();
    // Far more than the buffers of the sockets hold.
    let content = wav(2000);
    put(dir.path().join("1711444502.17.wav"), &content);
    let running = start(ServeSettings { public_url: Some(String::new()), ..settings(&dir) }).await.unwrap();
    let address = running.address();
    let mut download = get(address, &first_link(&running).await).await;
    let mut received = download.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    let shutdown = tokio::spawn(running.shutdown(DRAIN));
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DRAIN, refused).await.unwrap();
    assert!(!shutdown.is_finished());
    received.extend_from_slice(&download.into_body().collect().await.unwrap().to_bytes());
    assert!(received == content);
    shutdown.await.unwrap();
}

#[tokio::test]
async fn a_download_that_is_cut_at_the_end_is_on_record_with_its_client() {
    let dir = TempDir::new().unwrap();
    put(dir.path().join("1711444502.17.wav"), &wav(2000));
    let mut settings = settings(&dir);
    let path = dir.path().join("audit.jsonl");
    settings.service.audit_log = Some(AuditLogSettings::new(path.clone()));
    let running = start(settings).await.unwrap();
    let mut download = get(running.address(), &first_link(&running).await).await;
    download.frame().await.unwrap().unwrap();
    running.shutdown(Duration::from_millis(10)).await;
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["search", "begun", "delivery"], "{text}");
    assert_eq!((&lines[2]["outcome"], &lines[2]["status"]), (&"cut".into(), &200.into()));
    assert!(lines[2]["octets"].as_u64().unwrap() > 0);
    assert!(lines.iter().all(|line| line["client"] == "127.0.0.1"), "{text}");
}

#[tokio::test]
async fn an_address_to_listen_on_may_be_a_name() {
    let dir = TempDir::new().unwrap();
    let named = ServeSettings { bind_to: "localhost:0".to_owned(), ..settings(&dir) };
    assert!(start(named).await.unwrap().address().ip().is_loopback());
    for wrong in ["localhost", "localhost:http", &format!("{}.invalid:0", "x".repeat(64))] {
        let error = start(ServeSettings { bind_to: wrong.to_owned(), ..settings(&dir) }).await.unwrap_err();
        assert!(matches!(error, ServeError::Bind { .. }), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let dir = TempDir::new().unwrap();
    let running = start(settings(&dir)).await.unwrap();
    let taken = ServeSettings { bind_to: running.address().to_string(), ..settings(&dir) };
    let error = start(taken).await.unwrap_err();
    assert!(matches!(&error, ServeError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse));
    let files =
        CertificateFiles { certificate: "/none.pem".into(), key: "/none.key".into(), authority: None };
    let error = start(ServeSettings { tls: Some(files), ..settings(&dir) }).await.unwrap_err();
    assert!(error.to_string().contains("/none.pem"));
}

#[test]
fn origins_are_all_or_a_list() {
    assert_eq!(Origins::parse("*"), Some(Origins::Any));
    let list = ["https://a.example", "http://b:8080"].map(HeaderValue::from_static).to_vec();
    assert_eq!(Origins::parse("https://a.example/, http://b:8080"), Some(Origins::Only(list)));
    assert_eq!(Origins::parse("a.example"), None);
}

#[test]
fn a_client_may_name_the_request_if_its_id_is_harmless() {
    let named =
        |id: &str| sane_id(&HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_str(id).unwrap())]));
    assert_eq!(named("abc-1").as_deref(), Some("abc-1"));
    for wrong in ["", "a b", "a\"b", &"a".repeat(MAX_REQUEST_ID_LEN + 1)] {
        assert_eq!(named(wrong), None, "{wrong:?}");
    }
}
