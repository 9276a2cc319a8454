//! TLS of a listener over a connection, with buffers that belong to the thread. Records are decrypted where they were
//! received, many at a time, and lent to a tunnel; encrypted bytes go straight to the socket. So an idle connection has
//! no buffers at all, and bulk is copied less often than through the buffers of rustls.

use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use audiovault_protocol::link::{Received, Transport, with_scratch};
use bytes::{Buf, BytesMut};
use rustls::{
    ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus, WriteTraffic},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Longest record with its header, in bytes (RFC 8446, sections 5.1 and 5.2; TLS 1.2 allows longer ones, RFC 5246,
/// section 6.2.3).
const MAX_RECORD_LEN: usize = 5 + 16 * 1024 + 2048;
/// Most bytes of a handshake message that is not complete, as in rustls' own buffers.
const MAX_HANDSHAKE_LEN: usize = 64 * 1024;
/// Bytes that a tunnel reads at a time, besides the beginning of a record that came before.
const TUNNEL_READ_LEN: usize = 64 * 1024;
/// Bytes that HTTP reads at a time: what it does not take at once waits in memory of the connection.
const HTTP_READ_LEN: usize = 16 * 1024;
/// Most bytes that are encrypted at a time: they must not wait for a slow client in large numbers.
const WRITE_LEN: usize = 64 * 1024;
/// Bytes that a record may add: header, nonce, tag, padding to a block (RFC 5246, section 6.2.3; RFC 8446, section 5.2).
const RECORD_OVERHEAD: usize = 5 + 16 + 48 + 16;
/// Parts of a write that are shorter share a record; longer ones are encrypted from where they are.
const SHORT_PART_LEN: usize = 4 * 1024;
/// Most plaintext of a record (RFC 8446, section 5.1).
const MAX_FRAGMENT_LEN: usize = 16 * 1024;

/// A connection with TLS, of which this is the server.
pub struct TlsStream<S> {
    connection: UnbufferedServerConnection,
    records: Records,
    io: S,
    /// Decrypted bytes that HTTP has not read yet.
    plaintext: BytesMut,
    /// The peer has closed its direction without a close_notify.
    is_cut: bool,
}

/// The bytes of records on their way in and out, and what the peer has said.
#[derive(Debug, Default)]
struct Records {
    /// The beginning of a record or handshake message, which came without its end.
    incoming: Vec<u8>,
    /// Encrypted bytes that the socket has not taken.
    outgoing: BytesMut,
    /// The peer has sent something wrong; nothing behind it is read.
    is_broken: bool,
    /// The peer has sent close_notify.
    is_closed_by_peer: bool,
    /// This side has sent close_notify.
    is_closed: bool,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Does the handshake.
    ///
    /// # Errors
    /// If the connection breaks, or the client is not acceptable; the client gets the alert.
    pub(super) async fn accept(io: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream =
            Self { connection, records: Records::default(), io, plaintext: BytesMut::new(), is_cut: false };
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.is_handshaking() {
            ready!(self.poll_send(cx))?;
            // The client may send a request right behind its part of the handshake.
            if ready!(self.poll_fill_plaintext(cx))? == Received::End {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.poll_send(cx)
    }

    /// Reads from the socket once, and keeps the content for HTTP.
    fn poll_fill_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let mut plaintext = std::mem::take(&mut self.plaintext);
        let received = self.poll_fill(cx, HTTP_READ_LEN, &mut |bytes| plaintext.extend_from_slice(bytes));
        self.plaintext = plaintext;
        received
    }

    /// Reads from the socket once, decrypts all records that are complete, and passes their content to `take`.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        if self.records.is_broken {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let kept = self.records.incoming.len();
        let most = if self.connection.is_handshaking() { MAX_HANDSHAKE_LEN } else { MAX_RECORD_LEN };
        if kept >= most {
            let error = "a record or handshake message is too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        with_scratch(kept + len, |scratch| {
            scratch[..kept].copy_from_slice(&self.records.incoming);
            let mut buffer = ReadBuf::new(&mut scratch[kept..kept + len]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(Received::End));
            }
            let received = &mut scratch[..kept + read];
            match self.records.process(&mut self.connection, received, take) {
                Ok(used) => {
                    self.records.incoming.clear();
                    self.records.incoming.extend_from_slice(&received[used..]);
                }
                Err(error) => {
                    self.records.is_broken = true;
                    // The client gets the alert, if it can be sent at once.
                    let _ = self.poll_send(cx);
                    return Poll::Ready(Err(error));
                }
            }
            if self.records.incoming.is_empty() {
                self.records.incoming = Vec::new();
            }
            // What TLS itself has to say, such as an answer to a renewal of keys. What the socket does not take now goes
            // out before the next content.
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            Poll::Ready(Ok(Received::Bytes(read)))
        })
    }

    /// Sends the encrypted bytes that wait.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.records.outgoing.has_remaining() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.records.outgoing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.records.outgoing.advance(len),
            }
        }
        self.records.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Encrypts `plaintext`, at most [`WRITE_LEN`] of it, and hands it to the socket; what the socket does not take
    /// waits. Nothing may wait already. Returns how many bytes were encrypted.
    fn encrypt(&mut self, cx: &mut Context<'_>, plaintext: &[u8]) -> io::Result<usize> {
        let plaintext = &plaintext[..plaintext.len().min(WRITE_LEN)];
        let records = plaintext.len().div_ceil(MAX_FRAGMENT_LEN);
        with_scratch(plaintext.len() + (records + 1) * RECORD_OVERHEAD, |scratch| {
            let len = self.records.encrypt(&mut self.connection, plaintext, scratch)?;
            let mut encrypted = &scratch[..len];
            while self.records.outgoing.is_empty() && !encrypted.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, encrypted) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(written)) => encrypted = &encrypted[written..],
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => break,
                }
            }
            self.records.outgoing.extend_from_slice(encrypted);
            Ok(plaintext.len())
        })
    }
}

impl Records {
    /// Decrypts the records at the front of `received`. Returns how many bytes they have.
    fn process(
        &mut self,
        connection: &mut UnbufferedServerConnection,
        received: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                connection.process_tls_records(&mut received[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        take(record.payload);
                    }
                }
                Ok(ConnectionState::ReadEarlyData(mut early)) => {
                    // No configuration of a listener accepts early data.
                    while let Some(record) = early.next_record() {
                        discard += record.map_err(invalid)?.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encode(&mut self.outgoing, |out| message.encode(out))?
                }
                Ok(ConnectionState::TransmitTlsData(transmitted)) => transmitted.done(),
                Ok(ConnectionState::PeerClosed) => self.is_closed_by_peer = true,
                // Everything is decrypted, or the rest of a record has to come.
                Ok(_) => return Ok(used + discard),
                Err(error) => {
                    self.take_alert(connection, &mut received[used..])?;
                    return Err(invalid(error));
                }
            }
            used += discard;
        }
    }

    /// Adds the alert about an error to the bytes that wait to be sent. `received` are the bytes with the error.
    fn take_alert(
        &mut self,
        connection: &mut UnbufferedServerConnection,
        received: &mut [u8],
    ) -> io::Result<()> {
        // Without something to send, rustls would read the wrong bytes once more.
        while connection.wants_write() {
            match connection.process_tls_records(received).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encode(&mut self.outgoing, |out| message.encode(out))?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Encrypts `plaintext` into `target`. Returns the number of bytes there.
    fn encrypt(
        &mut self,
        connection: &mut UnbufferedServerConnection,
        plaintext: &[u8],
        target: &mut [u8],
    ) -> io::Result<usize> {
        self.when_writable(connection, |mut traffic| {
            traffic.encrypt(plaintext, target).map_err(io::Error::other)
        })?
        .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Adds close_notify to what waits to be sent (RFC 8446, section 6.1).
    fn close(&mut self, connection: &mut UnbufferedServerConnection) -> io::Result<()> {
        let mut alert = [0; 2 * RECORD_OVERHEAD];
        let len = self.when_writable(connection, |mut traffic| {
            traffic.queue_close_notify(&mut alert).map_err(io::Error::other)
        })?;
        self.outgoing.extend_from_slice(&alert[..len.unwrap_or(0)]);
        Ok(())
    }

    /// Calls `work` when content can be sent. `None` if that is no longer possible: after an error, whose alert was
    /// sent, or after both sides have closed.
    fn when_writable<T>(
        &mut self,
        connection: &mut UnbufferedServerConnection,
        work: impl FnOnce(WriteTraffic<'_, ServerConnectionData>) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.is_broken {
            return Ok(None);
        }
        // rustls remembers how much of an incomplete message it has seen, so it gets the same bytes again.
        let Self { incoming, outgoing, is_closed_by_peer, .. } = self;
        loop {
            match connection.process_tls_records(incoming).state.map_err(invalid)? {
                ConnectionState::WriteTraffic(traffic) => return work(traffic).map(Some),
                ConnectionState::EncodeTlsData(mut message) => encode(outgoing, |out| message.encode(out))?,
                ConnectionState::TransmitTlsData(transmitted) => transmitted.done(),
                ConnectionState::PeerClosed => *is_closed_by_peer = true,
                ConnectionState::ReadTraffic(_)
                | ConnectionState::ReadEarlyData(_)
                | ConnectionState::Closed
                | ConnectionState::BlockedHandshake
                | _ => return Ok(None),
            }
        }
    }
}

/// Appends what `encode` writes.
fn encode(
    outgoing: &mut BytesMut,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let len = match encode(&mut []) {
        Ok(len) => len,
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
    };
    let before = outgoing.len();
    outgoing.resize(before + len, 0);
    encode(&mut outgoing[before..]).map_err(io::Error::other)?;
    Ok(())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport for TlsStream<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        if self.plaintext.has_remaining() {
            let plaintext = std::mem::take(&mut self.plaintext);
            take(&plaintext);
            return Poll::Ready(Ok(Received::Bytes(plaintext.len())));
        }
        loop {
            if self.records.is_closed_by_peer {
                return Poll::Ready(Ok(Received::End));
            }
            let mut content = 0;
            let received = self.poll_fill(cx, TUNNEL_READ_LEN, &mut |bytes| {
                content += bytes.len();
                take(bytes);
            });
            match ready!(received)? {
                Received::End => return Poll::Ready(Ok(Received::End)),
                // A part of a record, or a message of TLS itself.
                Received::Bytes(_) if content == 0 => {}
                Received::Bytes(_) => return Poll::Ready(Ok(Received::Bytes(content))),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.plaintext.has_remaining() {
            if this.records.is_closed_by_peer || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.is_cut {
                // A response that ends so may have been cut by an attacker (RFC 8446, section 6.1).
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            this.is_cut = ready!(this.poll_fill_plaintext(cx))? == Received::End;
        }
        let len = buf.remaining().min(this.plaintext.len());
        buf.put_slice(&this.plaintext[..len]);
        this.plaintext.advance(len);
        if !this.plaintext.has_remaining() {
            this.plaintext = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        Poll::Ready(self.encrypt(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let mut written = 0;
        let mut left = parts.iter().filter(|part| !part.is_empty()).peekable();
        while let Some(part) = left.next() {
            // A head and a short body share a record.
            let mut joined = Vec::new();
            let is_short = |part: &IoSlice<'_>| part.len() < SHORT_PART_LEN;
            if is_short(part) {
                while let Some(next) = left.next_if(|next| {
                    is_short(next) && joined.len() + part.len() + next.len() < MAX_FRAGMENT_LEN
                }) {
                    if joined.is_empty() {
                        joined.extend_from_slice(part);
                    }
                    joined.extend_from_slice(next);
                }
            }
            match self.encrypt(cx, if joined.is_empty() { part } else { &joined }) {
                Ok(encrypted) => written += encrypted,
                // The error comes again with the next call.
                Err(_) if written > 0 => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.records.outgoing.has_remaining() || written >= WRITE_LEN {
                break;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.records.is_closed {
            self.records.is_closed = true;
            let Self { connection, records, .. } = &mut *self;
            records.close(connection)?;
        }
        ready!(self.poll_send(cx))?;
        match ready!(Pin::new(&mut self.io).poll_shutdown(cx)) {
            // The client was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

#[cfg(test)]
mod tests;
