//! Certificates from a real ACME server: issued, used, renewed while connections live, and kept across restarts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use harness::{address::free_address, pebble::Pebble, relay::Relay};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const DOMAIN: &str = "relay.example.test";
/// Seconds for which a certificate is valid; it is renewed after two thirds of them.
const VALIDITY: u64 = 24;

/// A relay whose TLS listener gets its certificate from Pebble; it also has a listener with plain HTTP.
async fn relay(pebble: &Pebble, tls: SocketAddr) -> Relay {
    let (tls, cacert) = (tls.to_string(), pebble.cacert());
    let cache = cacert.parent().unwrap().join("cache");
    let arguments = [
        ["--tls-bind", &tls],
        ["--acme-domain", DOMAIN],
        ["--acme-email", "admin@example.test"],
        ["--acme-cache", cache.to_str().unwrap()],
        ["--acme-directory", &pebble.directory()],
        ["--acme-cacert", cacert.to_str().unwrap()],
    ];
    Relay::start_with(arguments.as_flattened(), false).await
}

async fn connect(relay: SocketAddr, root: &[u8], alpn: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from(DOMAIN).unwrap();
    let stream = TcpStream::connect(relay).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    stream
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Requests the landing page on a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {DOMAIN}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"</html>") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_certificate_is_issued_and_renewed_while_connections_live() {
    let tls = free_address();
    let Some(pebble) = Pebble::start(tls, VALIDITY).await else { return };
    let mut relay = relay(&pebble, tls).await;
    relay.process().wait_for_code("acme.issued").await;
    let root = pebble.root().await;
    let mut open = connect(tls, &root, "http/1.1").await;
    let first = certificate(&open);
    connect(tls, &root, "h2").await;

    let renewed = relay.process().wait_for_code("acme.renewed");
    let mut renewed = Box::pin(renewed);
    loop {
        ask(&mut open).await;
        tokio::select! {
            _ = &mut renewed => break,
            // An idle connection would be closed, with or without a new certificate.
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
    drop(renewed);
    let second = certificate(&connect(tls, &root, "http/1.1").await);
    assert!(second != first, "another certificate");
    ask(&mut open).await;
    assert!(certificate(&open) == first, "the open connection keeps its certificate");

    relay.kill().await;
    relay.restart().await;
    relay.process().wait_for_code("acme.cached_in_use").await;
    connect(tls, &root, "http/1.1").await;
}

#[tokio::test]
async fn a_domain_that_points_elsewhere_is_reported_and_affects_nothing_else() {
    let (tls, elsewhere) = (free_address(), free_address());
    let Some(pebble) = Pebble::start(elsewhere, VALIDITY).await else { return };
    let relay = relay(&pebble, tls).await;
    let line = relay.process().wait_for_code("acme.failed").await;
    assert!(line.contains("it could not verify the domain") && line.contains("port 443"), "{line}");
    assert_eq!(reqwest::get(relay.url()).await.unwrap().status(), 200);
}
