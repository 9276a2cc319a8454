//! A client's connection below TLS and HTTP, as relay and agent handle it.
//!
//! It has a place among all connections ([`crate::admission::gate`]), it ends when it was idle for too long, and every
//! request on it knows how many bytes the socket has accepted.

use std::{
    convert::Infallible,
    future::{Future, ready},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tower::Service;

use crate::{
    admission::gate::{Admission, ConnectionPermit, Exceeded},
    limits::PAUSE_TIMEOUT,
};

/// How long a connection without a request is kept. Only requests count, not bytes: a connection with the beginning of
/// a head that never ends, or with an HTTP/2 client that answers pings and sends no request, is idle. Browsers close by
/// themselves after a minute or two; HTTP/1.1 connections end earlier, through the timeout of their request heads.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that is to end is kept, so that its last response can be sent.
const DONE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take nothing of a response: no longer than a client may pause a download.
const WRITE_STALL: Duration = PAUSE_TIMEOUT;

/// One client's connection, as those who answer its requests know it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The address of the peer, which may be a proxy.
    pub peer: SocketAddr,
    /// What happens below TLS and HTTP.
    pub meter: Arc<ConnectionMeter>,
}

impl Connection {
    /// A connection that was just accepted. `tls` says whether this program itself speaks TLS on it.
    pub fn new(peer: SocketAddr, tls: bool) -> Self {
        Self { peer, meter: Arc::new(ConnectionMeter::new(tls)) }
    }
}

/// Answers the requests of all connections of a listener. `A` is the body of a request.
pub trait Serve<A>: Clone + Send + Sync + 'static {
    /// The body of a response.
    type Body: Body + Send + 'static;

    /// Answers one request of a connection.
    fn serve(
        &self,
        connection: &Connection,
        request: Request<A>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Puts a meter around a connection that the gate has decided about, and tells the service that answers its requests
/// what was decided.
///
/// # Errors
/// If the gate refused the connection without an answer, or its socket has failed.
pub fn open<S, B>(
    stream: TcpStream,
    admission: Admission,
    mut service: Metering<S, B>,
) -> io::Result<(Metered<TcpStream>, Metering<S, B>)> {
    let permit = match admission {
        Admission::Admitted(permit) => permit,
        Admission::Answered(permit, exceeded) => {
            service.exceeded = Some(exceeded);
            // The room above a limit is small: it is for clients that send their request at once.
            service.connection.meter.finish();
            permit
        }
        Admission::Refused => return Err(io::Error::other("too many connections are open")),
    };
    // A response head must not wait for the acknowledgement of the previous response.
    stream.set_nodelay(true)?;
    let stream = Metered::new(stream, Arc::clone(&service.connection.meter), Some(permit));
    Ok((stream, service))
}

/// Figures of one client connection below TLS and HTTP.
///
/// The bytes that a socket has accepted are the last that a program can know about a delivery. They may still wait in
/// the kernel's buffer or be lost on the way.
#[derive(Debug)]
pub struct ConnectionMeter {
    tls: bool,
    written: AtomicU64,
    closed: AtomicBool,
    /// Requests whose response is not complete yet.
    under_way: AtomicUsize,
    /// Requests so far, so that a request that began and ended between two looks is noticed.
    requests: AtomicU64,
    upgraded: AtomicBool,
    done: AtomicBool,
}

impl ConnectionMeter {
    fn new(tls: bool) -> Self {
        Self {
            tls,
            written: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    /// Bytes that the operating system's socket has accepted so far: for all requests of the connection, with the
    /// overhead of HTTP and, if [`ConnectionMeter::is_tls`], of TLS.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// True if the connection has ended: [`ConnectionMeter::written`] no longer grows.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// True if this program itself speaks TLS on the connection. A proxy in front may have ended a TLS connection of
    /// its own.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    fn add(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Counts a request that has begun. It ends when the returned value is dropped.
    fn request(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// The connection has become a tunnel, which has its own timeouts.
    fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// The connection is to end soon after its running requests. Called before the connection is read.
    fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// The activity at this moment. Two values are equal if nothing happened in between.
    fn activity(&self) -> Activity {
        let busy = self.under_way.load(Ordering::Relaxed) > 0 || self.upgraded.load(Ordering::Relaxed);
        Activity {
            busy,
            done: self.done.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

/// One running request.
#[derive(Debug)]
pub struct UnderWay(Arc<ConnectionMeter>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The activity on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Activity {
    /// A request is running, or the connection is a tunnel.
    busy: bool,
    /// The connection is to end soon.
    done: bool,
    requests: u64,
}

/// A connection with its meter and its place among all connections.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    meter: Arc<ConnectionMeter>,
    idle: Pin<Box<Sleep>>,
    /// The activity at the time when the timer was set.
    seen: Activity,
    stalled: Option<Pin<Box<Sleep>>>,
    _permit: Option<ConnectionPermit>,
}

impl<S> Metered<S> {
    fn new(inner: S, meter: Arc<ConnectionMeter>, permit: Option<ConnectionPermit>) -> Self {
        let seen = meter.activity();
        let idle = Box::pin(sleep(if seen.done { DONE_TIMEOUT } else { IDLE_TIMEOUT }));
        Self { inner, meter, idle, seen, stalled: None, _permit: permit }
    }

    /// Returns true if there was no request for a whole [`IDLE_TIMEOUT`]. Otherwise the reader is woken to check again.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        while self.idle.as_mut().poll(cx).is_ready() {
            let before = std::mem::replace(&mut self.seen, self.meter.activity());
            if !self.seen.busy && (self.seen.done || before == self.seen) {
                return true;
            }
            self.idle.as_mut().reset(now() + IDLE_TIMEOUT);
        }
        false
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(result) => {
                self.stalled = None;
                if let Ok(bytes) = result {
                    self.meter.add(*bytes);
                }
                polled
            }
            Poll::Pending => {
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
                stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection is no part of the core")]
fn now() -> Instant {
    Instant::now()
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        self.meter.close();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP sees the end of an idle connection as if the client had closed it.
        if self.poll_idle(cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What is answered on a connection above a limit. The connection carries one request, which must come within a second,
/// so that clients that send nothing do not use the room for long.
#[derive(Debug)]
pub struct BeyondLimit<B> {
    /// The response to a request that is refused.
    pub refusal: fn(Exceeded) -> Response<B>,
    /// Paths that are served in spite of the limit.
    pub answered: &'static [&'static str],
}

impl<B> Clone for BeyondLimit<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for BeyondLimit<B> {}

/// Gives every request of a connection to the service that answers it, and counts the request on the meter.
#[derive(Debug)]
pub struct Metering<S, B> {
    inner: S,
    connection: Connection,
    exceeded: Option<Exceeded>,
    beyond: BeyondLimit<B>,
}

impl<S, B> Metering<S, B> {
    /// Serves the requests of a connection by `inner`. `beyond` says what is answered on a connection that is above a
    /// limit and gets an answer.
    pub fn new(inner: S, connection: Connection, beyond: BeyondLimit<B>) -> Self {
        Self { inner, connection, exceeded: None, beyond }
    }

    /// The address of the peer.
    pub fn peer(&self) -> SocketAddr {
        self.connection.peer
    }
}

impl<S: Clone, B> Clone for Metering<S, B> {
    fn clone(&self) -> Self {
        let Self { inner, connection, exceeded, beyond } = self;
        Self { inner: inner.clone(), connection: connection.clone(), exceeded: *exceeded, beyond: *beyond }
    }
}

impl<S, A> Service<Request<A>> for Metering<S, S::Body>
where
    S: Serve<A>,
    A: Send + 'static,
{
    type Response = Response<HeldBody<S::Body, UnderWay>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let meter = Arc::clone(&self.connection.meter);
        let under_way = meter.request();
        let is_last = self.exceeded.is_some() && request.version() <= Version::HTTP_11;
        let finish = move |mut response: Response<S::Body>| {
            if is_last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|body| HeldBody::new(body, under_way))
        };
        if let Some(exceeded) = self.exceeded
            && !self.beyond.answered.contains(&request.uri().path())
        {
            return Box::pin(ready(Ok(finish((self.beyond.refusal)(exceeded)))));
        }
        let inner = self.inner.clone();
        let connection = self.connection.clone();
        // The future of the service is made in the box: moving it there would copy some thousand bytes for each request.
        Box::pin(async move {
            let response = inner.serve(&connection, request).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                meter.upgrade();
            }
            Ok(finish(response))
        })
    }
}

/// A body with a guard that is dropped with it.
#[derive(Debug)]
pub struct HeldBody<B, G> {
    body: B,
    _guard: G,
}

impl<B, G> HeldBody<B, G> {
    /// The same body, which keeps `guard` until it is dropped.
    pub fn new(body: B, guard: G) -> Self {
        Self { body, _guard: guard }
    }
}

impl<B: Body + Unpin, G: Unpin> Body for HeldBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test begins somewhere in time")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn metered(room: usize) -> (DuplexStream, Metered<DuplexStream>, Arc<ConnectionMeter>) {
        let (client, server) = duplex(room);
        let meter = Arc::new(ConnectionMeter::new(false));
        (client, Metered::new(server, Arc::clone(&meter), None), meter)
    }

    #[tokio::test]
    async fn only_accepted_bytes_count_and_the_end_is_reported() {
        let (mut client, mut metered, meter) = metered(10);
        assert_eq!(metered.write(&[1; 25]).await.unwrap(), 10, "the buffer is full");
        assert_eq!(meter.written(), 10);
        let mut taken = [0; 10];
        client.read_exact(&mut taken).await.unwrap();
        let parts = [IoSlice::new(&[2; 3]), IoSlice::new(&[3; 4])];
        let accepted = metered.write_vectored(&parts).await.unwrap() as u64;
        assert!(accepted > 0);
        assert_eq!((meter.written(), meter.is_closed()), (10 + accepted, false));
        drop(metered);
        assert_eq!((meter.written(), meter.is_closed()), (10 + accepted, true));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_without_a_request_do_not_keep_a_connection() {
        let (mut client, mut metered, _meter) = metered(10);
        let start = Instant::now();
        let trickle = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut byte = [0];
        while metered.read(&mut byte).await.unwrap() > 0 {}
        assert!((IDLE_TIMEOUT..2 * IDLE_TIMEOUT).contains(&start.elapsed()), "{:?}", start.elapsed());
        trickle.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_above_a_limit_is_kept_for_a_second() {
        let (_client, server) = duplex(10);
        let meter = Arc::new(ConnectionMeter::new(false));
        meter.finish();
        let mut metered = Metered::new(server, meter, None);
        let start = Instant::now();
        assert!(metered.read_u8().await.is_err());
        assert!((DONE_TIMEOUT..2 * DONE_TIMEOUT).contains(&start.elapsed()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_and_a_tunnel_keep_it() {
        let (mut client, mut metered, meter) = metered(10);
        let request = meter.request();
        let silent = tokio::time::timeout(10 * IDLE_TIMEOUT, metered.read_u8()).await;
        assert!(silent.is_err(), "a download of ten minutes");
        drop(request);
        let start = Instant::now();
        assert!(metered.read_u8().await.is_err());
        assert!(start.elapsed() <= 2 * IDLE_TIMEOUT, "{:?}", start.elapsed());

        meter.upgrade();
        let silent = tokio::time::timeout(10 * IDLE_TIMEOUT, metered.read_u8()).await;
        assert!(silent.is_err(), "a tunnel");
        client.write_u8(7).await.unwrap();
        assert_eq!(metered.read_u8().await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up_when_a_listener_would_be() {
        let (_client, mut metered, _meter) = metered(10);
        metered.write_all(&[0; 10]).await.unwrap();
        let start = Instant::now();
        assert_eq!(metered.write_u8(0).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= PAUSE_TIMEOUT);
    }
}
