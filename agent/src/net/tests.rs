use std::{net::Ipv4Addr, path::Path, sync::Arc};

use audiovault_agent_core::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::{tls::leads_to, *};

/// A certificate authority for one test, and the file with its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        crate::http::listener::install_provider();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), made.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir }
    }

    /// A TLS acceptor with a certificate for `name` that is valid in these years.
    fn acceptor(&self, name: &str, [from, until]: [i32; 2]) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    /// A server that only does TLS handshakes.
    async fn server(&self, name: &str, years: [i32; 2]) -> Target {
        let acceptor = self.acceptor(name, years);
        let (listener, target) = listener("wss").await;
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                drop(acceptor.accept(tcp).await);
            }
        });
        target
    }
}

async fn listener(scheme: &str) -> (TcpListener, Target) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target::of(&Url::parse(&format!("{scheme}://localhost:{port}")).unwrap()).unwrap();
    (listener, target)
}

fn trusting(cacert: &Path) -> Outbound {
    crate::http::listener::install_provider();
    Outbound::new(&NetworkSettings { cacert: Some(cacert.to_owned()), ..NetworkSettings::default() }).unwrap()
}

async fn failure(outbound: &Outbound, target: &Target) -> TlsFailure {
    let error = outbound.reach(target).await.unwrap_err();
    let ReachError::Tls(host, failure) = error else { panic!("{error:?}") };
    assert_eq!(host, target.to_string());
    failure
}

#[tokio::test]
async fn a_trusted_server_is_reached_and_shows_its_certificate() {
    let authority = Authority::new("Good CA");
    let outbound = trusting(&authority.dir.path().join("ca.pem"));
    let target = authority.server("localhost", [2020, 2090]).await;
    let reached = outbound.reach(&target).await.unwrap();
    assert_eq!(reached.address.port(), target.port());
    let [own] = reached.certificates.as_slice() else { panic!("{reached:?}") };
    assert_eq!((own.names.as_slice(), &*own.issuer), (["localhost".to_owned()].as_slice(), "CN=Good CA"));
    assert!(reached.traffic.received() > 0, "bytes are counted below TLS");
}

#[tokio::test]
async fn who_opens_tls_on_the_way_is_named() {
    let trusted = Authority::new("Good CA");
    let stranger = Authority::new("Acme Firewall Inspection");
    let outbound = trusting(&trusted.dir.path().join("ca.pem"));
    let target = stranger.server("localhost", [2020, 2090]).await;
    let failure = failure(&outbound, &target).await;
    assert!(matches!(failure, TlsFailure::UnknownIssuer { .. }), "{failure:?}");
    assert!(failure.to_string().contains("Acme Firewall Inspection"), "{failure}");
    assert_eq!(failure.chain().len(), 1);
}

#[tokio::test]
async fn a_certificate_out_of_its_time_or_of_another_host_has_its_own_error() {
    let authority = Authority::new("Good CA");
    let outbound = trusting(&authority.dir.path().join("ca.pem"));
    let said = async |name: &str, years| {
        let target = authority.server(name, years).await;
        let failure = failure(&outbound, &target).await;
        (failure.to_string(), failure)
    };
    let (text, failure) = said("localhost", [2020, 2021]).await;
    assert!(matches!(failure, TlsFailure::Expired { .. }) && text.contains("2021-01-01"), "{text}");
    let (text, failure) = said("localhost", [2080, 2090]).await;
    assert!(matches!(failure, TlsFailure::NotYetValid { .. }) && text.contains("2080-01-01"), "{text}");
    let (text, failure) = said("other.example", [2020, 2090]).await;
    assert!(matches!(failure, TlsFailure::WrongName { .. }) && text.contains("other.example"), "{text}");
}

#[tokio::test]
async fn the_time_of_a_trusted_server_is_read_with_a_wrong_clock_here() {
    let authority = Authority::new("Good CA");
    let outbound = trusting(&authority.dir.path().join("ca.pem"));
    let secured = async |target: &Target| {
        let route = outbound.route(target).at_any_time();
        let addresses = route.resolve().await.unwrap();
        let connected = route.connect(&addresses).await.unwrap();
        route.secure(connected).await.map(|reached| reached.certificates.len())
    };
    for years in [[2020, 2021], [2080, 2090]] {
        let target = authority.server("localhost", years).await;
        assert!(outbound.reach(&target).await.is_err());
        assert_eq!(secured(&target).await.unwrap(), 1);
    }
    let wrong_name = authority.server("other.example", [2020, 2021]).await;
    assert!(secured(&wrong_name).await.is_err());
    let stranger = Authority::new("Another CA").server("localhost", [2020, 2021]).await;
    assert!(secured(&stranger).await.is_err());
}

#[tokio::test]
async fn who_signed_does_not_depend_on_the_time_or_the_name() {
    let authority = Authority::new("Good CA");
    let outbound = trusting(&authority.dir.path().join("ca.pem"));
    let roots = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        let file = authority.dir.path().join("ca.pem");
        roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
        roots
    };
    for (name, years) in [("localhost", [2020, 2021]), ("other.example", [2020, 2090])] {
        let target = authority.server(name, years).await;
        let failure = failure(&outbound, &target).await;
        assert!(leads_to(roots(&authority), failure.chain()));
        assert!(
            !leads_to(roots(&Authority::new("Good CA")), failure.chain()),
            "the name alone is not enough"
        );
        assert!(!is_publicly_signed(failure.chain()));
    }
    assert!(!is_publicly_signed(&[]));
}

#[tokio::test]
async fn a_server_without_tls_has_its_own_error() {
    let authority = Authority::new("Good CA");
    let outbound = trusting(&authority.dir.path().join("ca.pem"));
    let (listener, target) = listener("wss").await;
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Stays open, so that the other side reads what was sent.
        std::future::pending::<()>().await;
    });
    let failure = failure(&outbound, &target).await;
    assert!(matches!(failure, TlsFailure::NotTls(_)), "{failure:?}");
}

#[tokio::test]
async fn a_proxy_may_speak_tls_itself() {
    let authority = Authority::new("Good CA");
    let acceptor = authority.acceptor("localhost", [2020, 2090]);
    let (listener, proxy) = listener("wss").await;
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = acceptor.accept(tcp).await.unwrap();
        let mut asked = vec![0; 4096];
        let len = tls.read(&mut asked).await.unwrap();
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let said = tls.read_u8().await.unwrap();
        tls.write_u8(said).await.unwrap();
        String::from_utf8_lossy(&asked[..len]).into_owned()
    });
    let proxy = Proxy::parse(&Secret::new(format!("https://localhost:{}", proxy.port()))).unwrap();
    let settings = NetworkSettings {
        proxies: ProxyRules::configured(proxy),
        cacert: Some(authority.dir.path().join("ca.pem")),
    };
    let target = Target::of(&Url::parse("ws://relay.example").unwrap()).unwrap();
    let mut reached = Outbound::new(&settings).unwrap().reach(&target).await.unwrap();
    reached.stream.write_u8(7).await.unwrap();
    assert_eq!(reached.stream.read_u8().await.unwrap(), 7);
    assert!(served.await.unwrap().starts_with("CONNECT relay.example:80 HTTP/1.1"));
}

#[tokio::test]
async fn a_closed_port_and_a_wrong_name_are_different_stages() {
    crate::http::listener::install_provider();
    let outbound = Outbound::new(&NetworkSettings::default()).unwrap();
    let (closed, target) = listener("ws").await;
    drop(closed);
    let error = outbound.reach(&target).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Tcp);
    assert!(error.to_string().contains(&target.to_string()), "{error}");
    // `.invalid` is reserved by RFC 6761, and the label is too long: no name server needs to be asked.
    let nowhere = format!("ws://{}.invalid", "x".repeat(64));
    let error = outbound.reach(&Target::of(&Url::parse(&nowhere).unwrap()).unwrap()).await.unwrap_err();
    assert_eq!(error.stage(), Stage::Dns);
}

#[test]
fn a_file_without_certificates_is_refused() {
    crate::http::listener::install_provider();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, "nothing").unwrap();
    let settings =
        |file: &Path| NetworkSettings { cacert: Some(file.to_owned()), ..NetworkSettings::default() };
    assert!(matches!(Outbound::new(&settings(&file)), Err(TrustError::Empty(_))));
    assert!(matches!(Outbound::new(&settings(&dir.path().join("none"))), Err(TrustError::Unreadable(..))));
}
