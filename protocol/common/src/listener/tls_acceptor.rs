//! The TLS handshake of each connection, with the certificate of now.

use std::{io, pin::Pin, time::Duration};

use audiovault_protocol::admission::connection::Metered;
use axum_server::{accept::Accept, tls_rustls::RustlsConfig};
use tokio::{net::TcpStream, time::timeout};

use super::{gate::Acceptor, tls_stream::TlsStream};

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Admits a connection through the gate, and does its handshake.
#[derive(Debug, Clone)]
pub(super) struct TlsAcceptor {
    gate: Acceptor,
    config: RustlsConfig,
}

impl TlsAcceptor {
    pub(super) fn new(gate: Acceptor, config: RustlsConfig) -> Self {
        Self { gate, config }
    }
}

impl<S> Accept<TcpStream, S> for TlsAcceptor
where
    Acceptor: Accept<TcpStream, S, Stream = Metered<TcpStream>>,
    <Acceptor as Accept<TcpStream, S>>::Future: Send + 'static,
    <Acceptor as Accept<TcpStream, S>>::Service: Send,
{
    type Stream = TlsStream<Metered<TcpStream>>;
    type Service = <Acceptor as Accept<TcpStream, S>>::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admitted = self.gate.accept(stream, service);
        let config = self.config.get_inner();
        Box::pin(async move {
            let (stream, service) = admitted.await?;
            let stream = timeout(HANDSHAKE_TIMEOUT, TlsStream::accept(stream, config)).await??;
            Ok((stream, service))
        })
    }
}
