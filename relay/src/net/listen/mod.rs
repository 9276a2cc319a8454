//! The relay's listeners: their sockets, and certificates from files or from an ACME server.

mod acme;
mod sockets;

use std::{io, net::SocketAddr, sync::Arc};

use audiovault_common::{
    listener::{Gate, Listening, LiveCertificate, ResponseBody, from_files},
    tls::{CertificateError, CertificateFiles},
};
use audiovault_protocol::admission::connection::Serve;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use self::acme::AcmeClient;
pub use self::{
    acme::{AcmeError, AcmeOrder},
    sockets::{Sockets, room_for},
};

/// Why a listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The relay cannot listen on the address.
    #[error("cannot listen on {addr}: check that the address belongs to this machine and the port is free")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The socket has no address.
    #[error("cannot use the listening socket")]
    Socket(#[from] io::Error),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No certificate can be ordered.
    #[error(transparent)]
    Acme(#[from] AcmeError),
}

/// Where the certificate of a TLS listener comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Two files, read again when they change.
    Files(CertificateFiles),
    /// An ACME server, which also renews it.
    Acme(AcmeOrder),
}

/// Serves a router over TLS with a certificate of this source.
///
/// # Errors
/// [`ListenError`].
pub fn start_tls<S>(
    listener: TcpListener,
    certificate: CertificateSource,
    gate: &Arc<Gate>,
    service: S,
) -> Result<Listening, ListenError>
where
    S: Serve<Incoming, Body: ResponseBody>,
{
    match certificate {
        CertificateSource::Files(files) => {
            Ok(audiovault_common::listener::start_tls(listener, from_files(files)?, gate, service)?)
        }
        CertificateSource::Acme(order) => {
            let acme = AcmeClient::new(&order)?;
            let certificate = LiveCertificate { config: acme.live(), keep: acme.run() };
            Ok(audiovault_common::listener::start_tls(listener, certificate, gate, service)?)
        }
    }
}
