//! Listeners for HTTP and HTTPS: the same routes on both, with limits so that slow and greedy clients do not harm the
//! others.

mod certificate;
mod gate;
mod tls_acceptor;
mod tls_stream;

use std::{convert::Infallible, future::ready, io, net::SocketAddr, sync::Arc, time::Duration};

use audiovault_protocol::{
    admission::connection::{BeyondLimit, Connection, Metered, Metering, Serve},
    link::{Buffered, Transport},
};
use axum::{BoxError, Router, body::Body, extract::ConnectInfo, response::Response};
use axum_server::{Handle, Server, accept::Accept, service::SendService, tls_rustls::RustlsConfig};
use bytes::Bytes;
use http::Request;
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::{Service, service_fn};

pub use self::{
    certificate::{RELOAD_INTERVAL, log_failed_reload},
    gate::Gate,
    tls_stream::TlsStream,
};
use self::{gate::Acceptor, tls_acceptor::TlsAcceptor};
use crate::tls::{CertificateError, CertificateFiles, TlsReloader};

/// How long a client may take to send the head of a request, from the opening of the connection or the end of the
/// previous response; also how long an idle HTTP/1.1 connection is kept. A head fits into a few packets.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes buffered in each direction of an HTTP/1.1 connection: the longest head of a request, including its URI
/// (longer ones get status 431 or 414), and two DATA frames of a recording on their way out, so that one of them is
/// written while the next arrives.
const MAX_BUFFER: usize = 64 * 1024;
/// Bytes of an HTTP/2 request's head, counted with 32 for each field (RFC 9113, section 6.5.2): common proxies let 8
/// KiB through, and twice that leaves room for what they add.
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Most header fields of a request; browsers behind two proxies send about thirty.
const MAX_HEADERS: usize = 100;
/// Most requests at a time on one HTTP/2 connection; a page of players has a few dozen.
const MAX_STREAMS: u32 = 128;
/// An HTTP/2 client that answers no ping for this long is gone, even if its TCP connection is still open.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence after which an HTTP/2 client gets a ping.
const PING_EVERY: Duration = Duration::from_secs(30);

/// A certificate that is in use, and what keeps it up to date.
#[derive(Debug)]
pub struct LiveCertificate<F> {
    /// The configuration of TLS with the certificate of now.
    pub config: RustlsConfig,
    /// Follows the source of the certificate for ever.
    pub keep: F,
}

/// A certificate from two files, which are read again when they change. If the new files cannot be used, the previous
/// certificate stays in use.
///
/// # Errors
/// [`CertificateError`] if the files cannot be used now.
pub fn from_files(
    files: CertificateFiles,
) -> Result<LiveCertificate<impl Future<Output = Infallible> + Send + 'static>, CertificateError> {
    let reloader = TlsReloader::new(files.clone(), RELOAD_INTERVAL)?;
    Ok(LiveCertificate { config: reloader.live(), keep: certificate::keep(files, reloader) })
}

/// A running listener. Dropping it does not stop it; its handle does.
#[derive(Debug)]
pub struct Listening {
    /// The address that it listens on, with the real port.
    pub addr: SocketAddr,
    /// Stops it, at once or gracefully, and counts its connections. An upgraded connection is no longer counted.
    pub handle: Handle<SocketAddr>,
    /// Ends when the listener has stopped and its connections have ended.
    pub task: JoinHandle<io::Result<()>>,
}

/// A router of axum as the service of a listener. Its handlers find the address of the peer in
/// `ConnectInfo<SocketAddr>` and the state of the connection in `Extension<Arc<ConnectionMeter>>`.
#[derive(Debug, Clone)]
pub struct Routes(pub Router);

impl Serve<Incoming> for Routes {
    type Body = Body;

    fn serve(
        &self,
        connection: &Connection,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send {
        request.extensions_mut().insert(ConnectInfo(connection.peer));
        request.extensions_mut().insert(Arc::clone(&connection.meter));
        let answer = self.0.clone().call(request);
        async move {
            match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    }
}

/// Serves over plain HTTP/1.1 (with upgrades) and HTTP/2 with prior knowledge.
///
/// # Errors
/// If the socket has no address.
pub fn start_plain<S>(listener: TcpListener, gate: &Arc<Gate>, service: S) -> io::Result<Listening>
where
    S: Serve<Incoming, Body: ResponseBody>,
{
    let addr = listener.local_addr()?;
    let (handle, server) = server(listener);
    let beyond = Acceptor::beyond(gate);
    let server = server.acceptor(Acceptor::new(gate));
    Ok(Listening { addr, handle, task: tokio::spawn(serve(server, service, beyond, false)) })
}

/// Serves over TLS: HTTP/2 and HTTP/1.1 (with upgrades) as the client chooses. When the certificate is replaced, open
/// connections keep the old one.
///
/// # Errors
/// If the socket has no address.
pub fn start_tls<S>(
    listener: TcpListener,
    certificate: LiveCertificate<impl Future<Output = Infallible> + Send + 'static>,
    gate: &Arc<Gate>,
    service: S,
) -> io::Result<Listening>
where
    S: Serve<Incoming, Body: ResponseBody>,
{
    let addr = listener.local_addr()?;
    let (handle, server) = server(listener);
    let beyond = Acceptor::beyond(gate);
    let server = server.acceptor(TlsAcceptor::new(Acceptor::new(gate), certificate.config));
    let task = tokio::spawn(async move {
        tokio::select! {
            result = serve(server, service, beyond, true) => result,
            never = certificate.keep => match never {},
        }
    });
    Ok(Listening { addr, handle, task })
}

/// The body of a listener's responses, which can also be made of a few bytes: those of an error.
pub trait ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError>> + From<Bytes> + Unpin {}

impl<B> ResponseBody for B where B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + From<Bytes> + Unpin {}

/// The connection below an upgraded one, as a tunnel reads it, and the bytes that were received behind the request.
pub fn into_transport(upgraded: Upgraded) -> (Box<dyn Transport + Send>, Bytes) {
    let upgraded = match downcast::<TokioIo<TlsStream<Metered<TcpStream>>>>(upgraded) {
        Ok(parts) => return (Box::new(parts.io.into_inner()), parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match downcast::<TokioIo<Metered<TcpStream>>>(upgraded) {
        Ok(parts) => (Box::new(Buffered::new(parts.io.into_inner())), parts.read_buf),
        Err(upgraded) => (Box::new(Buffered::new(TokioIo::new(upgraded))), Bytes::new()),
    }
}

fn server(listener: TcpListener) -> (Handle<SocketAddr>, Server<SocketAddr>) {
    let handle = Handle::new();
    let mut server = Server::from_listener(listener)
        .handle(handle.clone())
        .first_request_timeout(HEAD_TIMEOUT)
        .accept_error_handler(|peer, error| match peer {
            // It is normal that some clients hang up or do not speak TLS.
            Some(peer) => tracing::debug!(%peer, %error, "cannot open a connection"),
            None => tracing::warn!(
                %error,
                code = "listener.accept_failed",
                "cannot accept connections: check the limit of open files"
            ),
        });
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_BUFFER).max_headers(MAX_HEADERS);
    builder
        .http2()
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    (handle, server)
}

async fn serve<A, S>(
    server: Server<SocketAddr, A>,
    service: S,
    beyond: BeyondLimit<S::Body>,
    tls: bool,
) -> io::Result<()>
where
    S: Serve<Incoming, Body: ResponseBody>,
    A: Accept<TcpStream, Metering<S, S::Body>> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let connected = move |peer: SocketAddr| {
        let connection = Connection::new(peer, tls);
        ready(Ok::<_, Infallible>(Metering::new(service.clone(), connection, beyond)))
    };
    server.serve(service_fn(connected)).await
}

#[cfg(test)]
mod tests;
