use audiovault_protocol::admission::connection::ConnectionMeter;
use axum::{Extension, body::Body, routing::get};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::tls::tests::TestCertificate;

/// Far longer than any test here takes; a test that hangs fails instead.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

async fn any_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn gate() -> Arc<Gate> {
    Arc::new(Gate::new(100, 100, Vec::new()))
}

fn router() -> Router {
    Router::new()
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
}

/// Sends a request unchanged and reads until the server hangs up.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses a request may reset the connection after its response.
    let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

async fn connect(
    addr: SocketAddr,
    trusted: &CertificateDer<'static>,
    alpn: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Tries until a handshake with this certificate succeeds.
async fn eventually_serves(addr: SocketAddr, certificate: &CertificateDer<'static>) {
    tokio::time::timeout(TEST_TIMEOUT, async {
        while connect(addr, certificate, &["http/1.1"]).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the new certificate is in use");
}

#[tokio::test]
async fn handlers_learn_the_peer_and_port_zero_becomes_a_real_one() {
    let listening = start_plain(any_port().await, &gate(), Routes(router())).unwrap();
    assert_ne!(listening.addr.port(), 0);
    let mut stream = TcpStream::connect(listening.addr).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    let answer = exchange(&mut stream, &get_request("/peer")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&own), "{answer}");
}

/// Sends its connection's meter to the test, then answers with a body of known length.
fn metered_router(sender: mpsc::UnboundedSender<Arc<ConnectionMeter>>) -> Router {
    Router::new().route(
        "/body",
        get(move |Extension(meter): Extension<Arc<ConnectionMeter>>| async move {
            sender.send(meter).unwrap();
            vec![0u8; BODY_LEN]
        }),
    )
}

const BODY_LEN: usize = 100_000;

#[tokio::test]
async fn every_request_carries_the_meter_of_its_connection() {
    let certificate = TestCertificate::new();
    let (sender, mut meters) = mpsc::unbounded_channel();
    let plain = start_plain(any_port().await, &gate(), Routes(metered_router(sender.clone()))).unwrap();
    let tls = start_tls(
        any_port().await,
        from_files(certificate.files()).unwrap(),
        &gate(),
        Routes(metered_router(sender)),
    )
    .unwrap();

    let mut stream = TcpStream::connect(plain.addr).await.unwrap();
    let answer = exchange(&mut stream, &get_request("/body")).await;
    let meter = meters.recv().await.unwrap();
    assert!(!meter.is_tls());
    // The connection has ended: the socket accepted every byte of the response, and no other byte.
    assert_eq!(meter.written(), answer.len() as u64);
    until_closed(&meter).await;

    let mut stream = connect(tls.addr, &certificate.der(), &["http/1.1"]).await.unwrap();
    let answer = exchange(&mut stream, &get_request("/body")).await;
    let meter = meters.recv().await.unwrap();
    assert!(meter.is_tls());
    assert!(meter.written() > answer.len() as u64, "counted below TLS, with its overhead");
    until_closed(&meter).await;
}

async fn until_closed(meter: &ConnectionMeter) {
    let closed = async {
        while !meter.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, closed).await.expect("the end of the connection is reported");
}

#[tokio::test]
async fn an_upgraded_connection_is_metered_until_its_end() {
    let (sender, mut meters) = mpsc::unbounded_channel();
    let upgrade = move |Extension(meter): Extension<Arc<ConnectionMeter>>, request: Request<Body>| async move {
        sender.send(meter).unwrap();
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let mut io = TokioIo::new(upgraded);
            let mut word = [0; 4];
            io.read_exact(&mut word).await.unwrap();
            io.write_all(&word).await.unwrap();
        });
        let headers = [(http::header::CONNECTION, "upgrade"), (http::header::UPGRADE, "echo")];
        (StatusCode::SWITCHING_PROTOCOLS, headers)
    };
    let listening =
        start_plain(any_port().await, &gate(), Routes(Router::new().route("/", get(upgrade)))).unwrap();
    let mut stream = TcpStream::connect(listening.addr).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nping";
    let answer = exchange(&mut stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("ping"), "{answer}");
    let meter = meters.recv().await.unwrap();
    until_closed(&meter).await;
    assert_eq!(meter.written(), answer.len() as u64);
}

#[tokio::test]
async fn heads_are_limited_in_size_and_number() {
    let listening = start_plain(any_port().await, &gate(), Routes(router())).unwrap();
    for (head, status) in [
        (format!("x-long: {}\r\n", "a".repeat(2 * MAX_BUFFER)), "431"),
        ("x-many: a\r\n".repeat(MAX_HEADERS + 1), "431"),
    ] {
        let mut stream = TcpStream::connect(listening.addr).await.unwrap();
        let request = format!("GET /peer HTTP/1.1\r\nhost: localhost\r\n{head}\r\n");
        // The server may hang up before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(std::str::from_utf8(&start).unwrap(), format!("HTTP/1.1 {status}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_head_is_hung_up_on() {
    let listening = start_plain(any_port().await, &gate(), Routes(router())).unwrap();
    for beginning in ["", "GET /peer HTTP/1.1\r\nhost: loc"] {
        let mut stream = TcpStream::connect(listening.addr).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Paused time advances only to timers, so only the head timeout can end this, in one way or another.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_graceful_stop_lets_the_running_answer_end() {
    let begun = Arc::new(Notify::new());
    let go = Arc::new(Notify::new());
    let handler_begun = Arc::clone(&begun);
    let handler_go = Arc::clone(&go);
    let slow = move || async move {
        handler_begun.notify_one();
        handler_go.notified().await;
        "done"
    };
    let listening =
        start_plain(any_port().await, &gate(), Routes(Router::new().route("/", get(slow)))).unwrap();
    let mut stream = TcpStream::connect(listening.addr).await.unwrap();
    let asked = tokio::spawn(async move { exchange(&mut stream, &get_request("/")).await });
    begun.notified().await;
    listening.handle.graceful_shutdown(None);
    go.notify_one();
    assert!(asked.await.unwrap().ends_with("done"));
    listening.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(listening.addr).await.is_err());
}

#[tokio::test]
async fn the_client_chooses_between_http_1_and_http_2_over_tls() {
    let certificate = TestCertificate::new();
    let listening =
        start_tls(any_port().await, from_files(certificate.files()).unwrap(), &gate(), Routes(router()))
            .unwrap();
    for (offered, chosen) in
        [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let stream = connect(listening.addr, &certificate.der(), offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    let mut stream = connect(listening.addr, &certificate.der(), &["http/1.1"]).await.unwrap();
    let answer = exchange(&mut stream, &get_request("/peer")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_renewed_certificate_comes_into_use_and_open_connections_stay() {
    let certificate = TestCertificate::new();
    let files = certificate.files();
    let reloader = TlsReloader::new(files.clone(), Duration::from_millis(5)).unwrap();
    let kept = LiveCertificate { config: reloader.live(), keep: certificate::keep(files, reloader) };
    let listening = start_tls(any_port().await, kept, &gate(), Routes(router())).unwrap();
    let mut open = connect(listening.addr, &certificate.der(), &["http/1.1"]).await.unwrap();

    certificate.renew();
    eventually_serves(listening.addr, &certificate.der()).await;
    assert!(exchange(&mut open, &get_request("/peer")).await.starts_with("HTTP/1.1 200"));
}
