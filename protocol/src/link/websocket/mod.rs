//! The WebSocket of a tunnel after its handshake (RFC 6455). The codec of frame headers is tungstenite's; the buffers are
//! ours, so that the bytes of a recording are copied once on each side.

mod decoder;
mod mask;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode as WsCloseCode, Control, Data, OpCode},
};

pub(super) use self::decoder::Message;
use self::{decoder::Decoder, mask::append_masked};
use super::{
    Ended,
    transport::{Received, Transport},
};
use crate::frame::Frame;

/// Bytes that may wait in the buffer before the stream must have taken some: two full DATA frames. A search never waits
/// behind more than a few frames, while bulk still fills large writes.
const WRITE_BUFFER_LEN: usize = 64 * 1024;
/// Longest buffer that an idle socket keeps, in bytes: enough for a usual head. The agent keeps more, because it sends the
/// recordings and has few tunnels.
const KEPT_BY_SERVER: usize = 4 * 1024;
const KEPT_BY_CLIENT: usize = 128 * 1024;
/// Longest reason of a close frame in bytes (RFC 6455, section 5.5: 125 bytes, two of them for the code).
const MAX_CLOSE_REASON_LEN: usize = 123;

/// Which side of a WebSocket this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The relay, which accepted the connection. Its frames are not masked.
    Server,
    /// The agent, which dialled. Its frames are masked.
    Client,
}

/// A WebSocket whose handshake is over.
#[derive(Debug)]
pub struct Socket<S> {
    stream: S,
    role: Role,
    decoder: Decoder,
    /// Bytes that were received with the handshake and not decoded yet.
    early: Bytes,
    /// Encoded messages.
    out: Vec<u8>,
    /// How many bytes of `out` the stream has taken.
    taken: usize,
    /// Whether the stream may hold bytes that it has taken.
    unflushed: bool,
    /// The part of the current frame that is no body.
    head: Vec<u8>,
    /// The answer to the latest ping. Earlier ones need none (RFC 6455, section 5.5.3).
    pong: Option<Bytes>,
    /// The answer to the peer's close frame.
    farewell: Option<(u16, String)>,
    closed_by_peer: bool,
}

impl<S: Transport> Socket<S> {
    /// The socket after the handshake on `stream`, with the bytes that were received behind the handshake.
    pub fn new(stream: S, role: Role, early: Bytes) -> Self {
        Self {
            stream,
            role,
            decoder: Decoder::new(role),
            early,
            out: Vec::new(),
            taken: 0,
            unflushed: false,
            head: Vec::new(),
            pong: None,
            farewell: None,
            closed_by_peer: false,
        }
    }

    /// Decodes the bytes that have arrived, and calls `handle` with each message. Pings are answered. Returns how many
    /// bytes were read, at least one.
    ///
    /// # Errors
    /// The error of `handle`; [`Ended`] if the peer broke the protocol or the connection ended.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        handle: &mut dyn FnMut(Message) -> Result<(), Ended>,
    ) -> Poll<Result<usize, Ended>> {
        let Self { stream, decoder, early, pong, farewell, closed_by_peer, .. } = self;
        let mut result = Ok(());
        let mut decode = |mut input: &[u8]| {
            while result.is_ok() && !*closed_by_peer {
                match decoder.next(&mut input) {
                    Ok(Some(message)) => {
                        match &message {
                            Message::Ping(payload) => *pong = Some(payload.clone()),
                            Message::Close(close) => {
                                *closed_by_peer = true;
                                *farewell = Some(answer_to(close.as_ref()));
                            }
                            Message::Binary(_) | Message::Pong(_) => {}
                        }
                        result = handle(message);
                    }
                    Ok(None) => break,
                    Err(violation) => result = Err(Ended::Violation(violation)),
                }
            }
        };
        let received = if early.is_empty() {
            ready!(stream.poll_receive(cx, &mut decode))
        } else {
            let early = std::mem::take(early);
            decode(&early);
            Ok(Received::Bytes(early.len()))
        };
        Poll::Ready(match (result, received) {
            (Err(ended), _) => Err(ended),
            (Ok(()), Ok(Received::Bytes(len))) => Ok(len),
            (Ok(()), Ok(Received::End)) => {
                let error = "the connection ended without a close frame";
                Err(Ended::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, error)))
            }
            (Ok(()), Err(error)) => Err(Ended::Broken(error)),
        })
    }

    /// Waits until there is room for one more message.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() - self.taken >= WRITE_BUFFER_LEN {
            ready!(self.poll_write_out(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Closes a socket that never became a tunnel: sends a close frame without a reason.
    ///
    /// # Errors
    /// The error of the connection.
    pub async fn hang_up(mut self) -> io::Result<()> {
        self.close(WsCloseCode::Normal.into(), "");
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Adds a frame as a binary message. Returns its length in bytes.
    pub(super) fn send(&mut self, frame: &Frame) -> usize {
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        let body = frame.encode_head(&mut head);
        self.add(OpCode::Data(Data::Binary), &head, body);
        let len = head.len() + body.len();
        self.head = head;
        len
    }

    /// Adds a ping.
    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.add(OpCode::Control(Control::Ping), payload, &[]);
    }

    /// Adds a close frame. A reason that is too long is cut.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        let reason = &reason[..reason.floor_char_boundary(MAX_CLOSE_REASON_LEN)];
        self.add(OpCode::Control(Control::Close), &code.to_be_bytes(), reason.as_bytes());
    }

    /// Whether the peer has sent a close frame.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }

    /// Which side this is.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// The connection below.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Hands everything to the stream, and waits until the stream has passed it on.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(payload) = self.pong.take() {
            self.add(OpCode::Control(Control::Pong), &payload, &[]);
        }
        if let Some((code, reason)) = self.farewell.take() {
            self.close(code, &reason);
        }
        ready!(self.poll_write_out(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.out.len() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.out[self.taken..]);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.taken += len,
            }
            self.unflushed = true;
        }
        self.taken = 0;
        self.out.clear();
        let kept = match self.role {
            Role::Server => KEPT_BY_SERVER,
            Role::Client => KEPT_BY_CLIENT,
        };
        if self.out.capacity() > kept {
            self.out = Vec::new();
        }
        if self.head.capacity() > KEPT_BY_SERVER {
            self.head = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, opcode: OpCode, first: &[u8], second: &[u8]) {
        let mask = match self.role {
            Role::Server => None,
            Role::Client => Some(rand::random()),
        };
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        let len = first.len() + second.len();
        self.out.reserve(header.len(len as u64) + len);
        // Writing to a vector cannot fail.
        let _ = header.format(len as u64, &mut self.out);
        match mask {
            Some(mask) => {
                append_masked(&mut self.out, first, mask, 0);
                append_masked(&mut self.out, second, mask, first.len());
            }
            None => {
                self.out.extend_from_slice(first);
                self.out.extend_from_slice(second);
            }
        }
    }
}

/// The answer to a close frame: the same code (RFC 6455, section 5.5.1), unless no peer may send it (section 7.4).
fn answer_to(close: Option<&(u16, String)>) -> (u16, String) {
    match close {
        None => (WsCloseCode::Normal.into(), String::new()),
        Some((code, reason)) if WsCloseCode::from(*code).is_allowed() => (*code, reason.clone()),
        Some(_) => (WsCloseCode::Protocol.into(), "the close code is not allowed".to_owned()),
    }
}
