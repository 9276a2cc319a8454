//! A connection below TLS and HTTP: reports written bytes to its meter, and ends after a long time without requests.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::meter::{Activity, ConnectionMeter};
use crate::{admission::gate::ConnectionPermit, limits::PAUSE_TIMEOUT};

/// How long a connection without a request is kept. Only requests count, not bytes: a connection with the beginning of
/// a head that never ends, or with an HTTP/2 client that answers pings and sends no request, is idle. Browsers close by
/// themselves after a minute or two; HTTP/1.1 connections end earlier, through the timeout of their request heads.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that is to end is kept, so that its last response can be sent.
const DONE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take nothing of a response: no longer than a client may pause a download.
const WRITE_STALL: Duration = PAUSE_TIMEOUT;

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
    pub(super) fn new(inner: S, meter: Arc<ConnectionMeter>, permit: Option<ConnectionPermit>) -> Self {
        let seen = meter.activity();
        Self { inner, meter, idle: Box::pin(sleep(IDLE_TIMEOUT)), seen, stalled: None, _permit: permit }
    }

    /// Returns true if there was no request for a whole [`IDLE_TIMEOUT`]. Otherwise the reader is woken to check again.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        if self.meter.activity().done && !self.seen.done {
            self.seen = self.meter.activity();
            self.idle.as_mut().reset(now() + DONE_TIMEOUT);
        }
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
    async fn only_what_was_accepted_counts_and_the_end_is_told() {
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
