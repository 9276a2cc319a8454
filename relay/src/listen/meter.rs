//! Counts what the operating system's socket has taken from one connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of one client connection beneath TLS and HTTP. Every request of the connection carries it as the
/// extension `Arc<ConnectionMeter>`.
///
/// What a socket has accepted is the last that a program can know of a delivery: it may still wait in the kernel's
/// buffer or be lost on the way.
#[derive(Debug)]
pub struct ConnectionMeter {
    tls: bool,
    written: AtomicU64,
    closed: AtomicBool,
}

impl ConnectionMeter {
    pub(super) fn new(tls: bool) -> Self {
        Self { tls, written: AtomicU64::new(0), closed: AtomicBool::new(false) }
    }

    /// Octets that the operating system's socket has accepted so far: of all requests of the connection, with the
    /// overhead of HTTP and, where [`ConnectionMeter::is_tls`], of TLS.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the connection has ended: [`ConnectionMeter::written`] grows no more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the client speaks TLS with this relay itself. A proxy in front may have ended a TLS of its own.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    fn add(&self, octets: usize) {
        self.written.fetch_add(octets as u64, Ordering::Relaxed);
    }
}

/// A connection that tells its meter what was written.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    meter: Arc<ConnectionMeter>,
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S, meter: Arc<ConnectionMeter>) -> Self {
        Self { inner, meter }
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        self.meter.closed.store(true, Ordering::Release);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(octets)) = &polled {
            self.meter.add(*octets);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(octets)) = &polled {
            self.meter.add(*octets);
        }
        polled
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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn only_what_was_accepted_counts_and_the_end_is_told() {
        let (mut client, server) = duplex(10);
        let meter = Arc::new(ConnectionMeter::new(false));
        let mut metered = Metered::new(server, Arc::clone(&meter));
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
}
