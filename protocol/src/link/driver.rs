//! The driver: one task that polls a tunnel's socket, timer and commands around a pure multiplexer.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Sleep,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message, error::ProtocolError, protocol::CloseFrame},
};

use super::Traffic;
use crate::{
    frame::{Frame, one_line},
    limits::{CLOSE_TIMEOUT, MAX_REASON_LEN},
    message::CloseCode,
    mux::{PingPayload, Violation},
};

/// Messages read before the other directions get their turn: enough to make a wake-up worth its price, few
/// enough that credit flows back while bulk comes in. At most half a megabyte: what the processor's own memory holds.
const READ_TURN: usize = 16;

/// Longest reason of a close frame (RFC 6455, section 5.5: 125 octets with the two of the code).
const MAX_CLOSE_REASON_LEN: usize = 123;

/// Why a side closes a tunnel, as the other will read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// Tells programs.
    pub code: CloseCode,
    /// Tells people, in one sentence.
    pub reason: String,
}

impl Close {
    /// A close with its sentence.
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// How a tunnel ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The peer closed it.
    #[error("the peer closed the tunnel: {} ({})", .0.reason, u16::from(.0.code))]
    ByPeer(Close),
    /// This side closed it.
    #[error("closed the tunnel: {} ({})", .0.reason, u16::from(.0.code))]
    ByUs(Close),
    /// The peer broke the protocol, or fell silent.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The connection broke.
    #[error("the connection to the peer broke")]
    Broken(#[source] Box<WsError>),
}

/// A multiplexer with its application, as the driver sees it.
pub(crate) trait Endpoint {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation>;
    fn handle_inbound(&mut self, now: Instant);
    fn handle_pong(&mut self, payload: &[u8], now: Instant);
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation>;
    /// Does what events and the application's commands ask for.
    fn work(&mut self, now: Instant);
    /// When the next turn is due, whatever comes; pings are not where the socket takes nothing.
    fn poll_timeout(&self, may_send: bool) -> Instant;
    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload>;
    /// How many octets may be handed to the socket before it must have passed them on.
    fn burst(&self) -> usize;
    /// How many octets may wait unsent in the kernel, where that is to be set.
    fn unsent(&self) -> Option<usize>;
    fn poll_transmit(&mut self, now: Instant) -> Option<Frame>;
    /// Whom to wake when the application gives a command.
    fn register(&self, waker: &Waker);
    /// Whether the tunnel should be closed from this side now.
    fn poll_close(&mut self) -> Option<Close>;
    /// Gives up whatever is open: the tunnel carries nothing any more. Called once, before the closing handshake, which
    /// may take as long as [`CLOSE_TIMEOUT`]; not where the driver itself is dropped.
    fn give_up(&mut self);
}

struct Driver<'a, E, S> {
    endpoint: &'a mut E,
    socket: WebSocketStream<S>,
    traffic: Arc<Traffic>,
    heard: u64,
    /// Octets handed to the socket since it was last seen to have passed on everything.
    held: usize,
    sleep: Pin<Box<Sleep>>,
}

/// Runs a tunnel to its end.
pub(crate) async fn drive<E, S>(endpoint: &mut E, socket: WebSocketStream<S>, traffic: Arc<Traffic>) -> Ended
where
    E: Endpoint,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sleep = Box::pin(tokio::time::sleep_until(endpoint.poll_timeout(true).into()));
    let heard = traffic.received();
    let mut driver = Driver { endpoint, socket, traffic, heard, held: 0, sleep };
    let ended = poll_fn(|cx| driver.poll(cx)).await;
    driver.endpoint.give_up();
    let goodbye = match &ended {
        Ended::ByUs(close) => Some(close.clone()),
        Ended::Violation(violation) => Some(Close::new(violation.close_code(), violation.to_string())),
        // The library has queued the answer to the peer's close frame.
        Ended::ByPeer(_) => None,
        Ended::Broken(_) => return ended,
    };
    // A peer that does not answer loses the connection all the same.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, driver.close(goodbye)).await;
    ended
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver is where the clock enters; tokio's can be paused in tests"
)]
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<E, S> Driver<'_, E, S>
where
    E: Endpoint,
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.endpoint.register(cx.waker());
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let now = clock();
            // What has arrived is read before the peer is judged: a machine that slept must not blame the other.
            let read = self.read(cx, now);
            // What came before the end of the tunnel is heard before it: a last body, or when to dial again.
            self.endpoint.work(now);
            read?;
            self.endpoint.handle_timeout(now).map_err(Ended::Violation)?;
            self.endpoint.work(now);
            let may_send = self.write(cx, now)?;
            if let Some(octets) = self.endpoint.unsent() {
                self.traffic.set_unsent(octets);
            }
            if let Some(close) = self.endpoint.poll_close() {
                return Err(Ended::ByUs(close));
            }
            self.sleep.as_mut().reset(self.endpoint.poll_timeout(may_send).into());
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        for turn in 0.. {
            if turn == READ_TURN {
                cx.waker().wake_by_ref();
                break;
            }
            match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => self.take(message, now)?,
                Poll::Ready(Some(Err(error))) => return Err(because(error)),
                Poll::Ready(None) => return Err(Ended::Broken(Box::new(WsError::ConnectionClosed))),
            }
        }
        let heard = self.traffic.received();
        if heard != self.heard {
            self.heard = heard;
            self.endpoint.handle_inbound(now);
        }
        Ok(())
    }

    fn take(&mut self, message: Message, now: Instant) -> Result<(), Ended> {
        match message {
            Message::Binary(octets) => {
                let frame = Frame::decode(octets).map_err(Violation::from).map_err(Ended::Violation)?;
                self.endpoint.handle_frame(frame, now).map_err(Ended::Violation)
            }
            Message::Pong(payload) => {
                self.endpoint.handle_pong(&payload, now);
                Ok(())
            }
            Message::Close(frame) => Err(Ended::ByPeer(frame.map_or_else(
                || Close::new(CloseCode::Normal, "no reason was given"),
                |frame| {
                    Close::new(
                        u16::from(frame.code).into(),
                        one_line(cut(frame.reason.as_str(), MAX_REASON_LEN)),
                    )
                },
            ))),
            Message::Text(_) => Err(Ended::Violation(Violation::NotBinary)),
            // The library answers pings by itself; raw frames are never read.
            Message::Ping(_) | Message::Frame(_) => Ok(()),
        }
    }

    /// Hands over what there is to send; whether the socket would take more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        let broken = |error| Ended::Broken(Box::new(error));
        loop {
            // What lies beneath the lanes is overtaken by nobody; WebSocket and TLS would take much.
            if self.held >= self.endpoint.burst() && self.flush(cx)?.is_pending() {
                return Ok(false);
            }
            match Pin::new(&mut self.socket).poll_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready.map_err(broken)?,
            }
            let message = match self.endpoint.poll_ping(now) {
                Some(payload) => Some(Message::Ping(Bytes::copy_from_slice(&payload))),
                None => self.endpoint.poll_transmit(now).map(|frame| Message::Binary(frame.encode())),
            };
            let Some(message) = message else { break };
            self.held += message.len();
            Pin::new(&mut self.socket).start_send(message).map_err(broken)?;
        }
        let _ = self.flush(cx)?;
        Ok(true)
    }

    /// Has the socket pass everything on.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(Ended::Broken(Box::new(error))),
            Poll::Ready(Ok(())) => {
                self.held = 0;
                Ok(Poll::Ready(()))
            }
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    async fn close(&mut self, goodbye: Option<Close>) {
        let mut answered = goodbye.is_none();
        if let Some(close) = goodbye {
            let code = u16::from(close.code).into();
            let reason = cut(&close.reason, MAX_CLOSE_REASON_LEN).into();
            let frame = Message::Close(Some(CloseFrame { code, reason }));
            let ready = poll_fn(|cx| Pin::new(&mut self.socket).poll_ready(cx)).await;
            if ready.and_then(|()| Pin::new(&mut self.socket).start_send(frame)).is_err() {
                return;
            }
        }
        let _ = poll_fn(|cx| Pin::new(&mut self.socket).poll_flush(cx)).await;
        // Frames that were under way are of no use any more; the peer's close, or its end, ends the stream.
        while let Some(Ok(message)) = poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx)).await {
            answered |= message.is_close();
        }
        if !answered {
            self.hear_out().await;
        }
    }

    /// Takes what a peer still sends whose messages cannot be read any more. A connection that is closed with octets
    /// unread is reset, and a reset may overtake the goodbye (RFC 6455, section 7.1.1).
    async fn hear_out(&mut self) {
        let connection = self.socket.get_mut();
        let mut unread = vec![0; 4096];
        if connection.shutdown().await.is_ok() {
            while matches!(connection.read(&mut unread).await, Ok(1..)) {}
        }
    }
}

/// Whether the peer is to blame for a connection that gives no more messages, or the way.
fn because(error: WsError) -> Ended {
    match error {
        WsError::Capacity(_) => Ended::Violation(Violation::TooLong),
        // Every break looks like an end without a close frame.
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Io(_)
        | WsError::Tls(_)
        | WsError::WriteBufferFull(_)
        | WsError::Url(_)
        | WsError::Http(_)
        | WsError::HttpFormat(_) => Ended::Broken(Box::new(error)),
        WsError::Utf8(_) => Ended::Violation(Violation::NotUtf8),
        WsError::Protocol(_) | WsError::AttackAttempt => {
            Ended::Violation(Violation::NotWebSocket(error.to_string()))
        }
    }
}

fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
