//! The connection during its upgrade. The library that does the handshake reads as much as it gets; whatever the relay
//! sends behind the head of its response is kept here for the tunnel.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// How a response begins that accepts the upgrade (RFC 9112, section 4). The body of any other response passes.
const ACCEPTED: &[u8] = b"HTTP/1.1 101";
/// The end of the head of a response.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A connection that ends, for its reader, behind the head of a response that accepts an upgrade.
#[derive(Debug)]
pub(super) struct HandshakeStream {
    inner: Stream,
    /// What was read so far.
    head: BytesMut,
    /// What came behind the head, once that is complete.
    behind: Option<Bytes>,
}

impl HandshakeStream {
    pub(super) fn new(inner: Stream) -> Self {
        Self { inner, head: BytesMut::new(), behind: None }
    }

    /// The connection, and what was received behind the head of the response.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.inner, self.behind.unwrap_or_default())
    }

    /// Notes bytes that were read; returns how many of them the reader gets.
    fn take(&mut self, received: &[u8]) -> usize {
        let before = self.head.len();
        self.head.extend_from_slice(received);
        if !self.head.starts_with(ACCEPTED) {
            return received.len();
        }
        let Some(end) = memchr::memmem::find(&self.head, END_OF_HEAD) else { return received.len() };
        let end = end + END_OF_HEAD.len();
        self.behind = Some(self.head.split_off(end).freeze());
        // The head did not end in what came before, or it would have been complete then.
        end - before
    }
}

impl AsyncRead for HandshakeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.behind.is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let passed = self.take(&buf.filled()[before..]);
        buf.set_filled(before + passed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HandshakeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What the reader gets of these pieces, and what is kept.
    async fn read(pieces: &[&str]) -> (String, Bytes) {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut stream = HandshakeStream::new(Box::new(near));
        let mut read = Vec::new();
        for piece in pieces {
            far.write_all(piece.as_bytes()).await.unwrap();
            let mut buffer = [0; 1000];
            let len = stream.read(&mut buffer).await.unwrap();
            read.extend_from_slice(&buffer[..len]);
        }
        (String::from_utf8(read).unwrap(), stream.into_parts().1)
    }

    #[tokio::test]
    async fn what_comes_behind_an_accepting_head_is_kept_for_the_tunnel() {
        const HEAD: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
        assert_eq!(read(&[HEAD]).await, (HEAD.to_owned(), Bytes::new()));
        for cut in 0..HEAD.len() {
            let (first, rest) = HEAD.split_at(cut);
            let pieces = [first, &format!("{rest}frames\r\n\r\n")];
            let pieces = if first.is_empty() { &pieces[1..] } else { &pieces[..] };
            assert_eq!(read(pieces).await, (HEAD.to_owned(), Bytes::from_static(b"frames\r\n\r\n")), "{cut}");
        }
    }

    #[tokio::test]
    async fn a_refusal_passes_with_its_body() {
        const REFUSAL: &str = "HTTP/1.1 401 Unauthorized\r\n\r\n{\"detail\":\"no\"}";
        assert_eq!(read(&[REFUSAL]).await, (REFUSAL.to_owned(), Bytes::new()));
    }
}
