//! How a tunnel reads: the connection lends the bytes that it has received, so that they are copied once, into the frame
//! to which they belong.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the buffer of each thread into which connections are read: four TLS records, so that a busy connection needs
/// one system call for many frames. The buffer belongs to the thread, so an idle tunnel has none.
const SCRATCH_LEN: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a connection has lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing, because the peer has closed its direction.
    End,
}

/// A connection that lends the bytes that it has received.
pub trait Transport: AsyncWrite + Unpin {
    /// Passes the bytes that have arrived to `take`, in one or more pieces. They are gone afterwards.
    ///
    /// # Errors
    /// The error of the connection.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>>;
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        (**self).poll_receive(cx, take)
    }
}

/// Any connection as a [`Transport`]: it is read into a buffer of the thread.
#[derive(Debug)]
pub struct Buffered<S>(S);

impl<S> Buffered<S> {
    /// Reads `connection` through the buffer of the thread.
    pub fn new(connection: S) -> Self {
        Self(connection)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for Buffered<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        with_scratch(SCRATCH_LEN, |scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
            let received = buffer.filled();
            if received.is_empty() {
                return Poll::Ready(Ok(Received::End));
            }
            take(received);
            Poll::Ready(Ok(Received::Bytes(received.len())))
        })
    }
}

/// Runs `work` with the buffer of this thread, which has at least `len` bytes of undefined content. Within `work`, the
/// thread would get another buffer.
pub fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut scratch = SCRATCH.take();
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    let result = work(&mut scratch);
    SCRATCH.set(scratch);
    result
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
