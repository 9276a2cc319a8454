//! A firewall that intercepts TLS: it shows every client a certificate of its own for the relay's name, reads all
//! data, and makes its own TLS connection to the relay.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{address::free_address, authority::Authority, relay::Relay};

/// A running firewall. It ends when this is dropped.
#[derive(Debug)]
pub struct Middlebox {
    /// The address on which it listens.
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl Middlebox {
    /// Starts a firewall in front of a relay, on an address of its own with the relay's port. Its certificate is for
    /// the relay's name and signed by `authority`.
    pub async fn before(relay: &Relay, name: &'static str, authority: &Authority) -> Self {
        let address = SocketAddr::new(free_address().ip(), relay.address.port());
        let listener = TcpListener::bind(address).await.expect("a loopback address");
        let dir = TempDir::new().expect("a temporary directory");
        let minted = authority.sign(dir.path(), name);
        let key = PrivateKeyDer::from_pem_file(&minted.key).expect("a key");
        let inside = ServerConfig::builder().with_no_client_auth();
        let inside = inside.with_single_cert(read(&minted.certificate), key).expect("a certificate");
        let inside = TlsAcceptor::from(Arc::new(inside));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(read(&relay.certificate().expect("a relay with TLS").authority));
        let outside = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let outside = Outside {
            tls: TlsConnector::from(Arc::new(outside)),
            relay: relay.address,
            name: ServerName::try_from(name).expect("a name"),
        };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(open(stream, inside.clone(), outside.clone()));
            }
        });
        Self { address, _task: task }
    }
}

/// The address and the TLS settings of the relay.
#[derive(Clone)]
struct Outside {
    tls: TlsConnector,
    relay: SocketAddr,
    name: ServerName<'static>,
}

/// Passes data of one connection until either side ends it. A client that does not trust the certificate disconnects
/// at once.
async fn open(client: TcpStream, inside: TlsAcceptor, outside: Outside) -> Option<()> {
    let mut client = inside.accept(client).await.ok()?;
    let stream = TcpStream::connect(outside.relay).await.ok()?;
    let mut server = outside.tls.connect(outside.name, stream).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
}

fn read(file: &Path) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_file_iter(file).expect("a file");
    certificates.map(|certificate| certificate.expect("a certificate")).collect()
}
