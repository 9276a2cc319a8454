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
    limits::{CLOSE_TIMEOUT, FULL_BURST, MAX_REASON_LEN},
    message::CloseCode,
    mux::{PingPayload, Violation},
};

/// Messages that are read before the other directions get their turn. Enough to make a wake-up worth its cost, but few
/// enough that credit flows back while bulk comes in. Together at most half a megabyte, which fits into the processor's
/// cache.
const READ_TURN: usize = 16;

/// Longest reason of a close frame in bytes (RFC 6455, section 5.5: 125 bytes, two of them for the code).
const MAX_CLOSE_REASON_LEN: usize = 123;

/// Why a side closes a tunnel, as the other side will read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The reason for programs.
    pub code: CloseCode,
    /// The reason for people, in one sentence.
    pub reason: String,
}

impl Close {
    /// A close with its code and sentence.
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
    /// The peer broke the protocol, or became silent.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The connection broke.
    #[error("the connection to the peer failed")]
    Broken(#[source] Box<WsError>),
}

/// A multiplexer with its application, as the driver sees it.
pub(crate) trait Endpoint {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation>;
    fn handle_inbound(&mut self, now: Instant);
    fn handle_pong(&mut self, payload: &[u8], now: Instant);
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation>;
    /// Handles the events of the multiplexer and the commands of the application.
    fn work(&mut self, now: Instant);
    /// When the next turn is due at the latest. A ping is not due while the socket accepts no data (not `may_send`).
    fn poll_timeout(&self, may_send: bool) -> Instant;
    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload>;
    /// How many bytes may be handed to the socket before it must have passed them on. The default is for a side that
    /// sends little at a time.
    fn burst(&self) -> usize {
        FULL_BURST
    }
    /// How many bytes may wait unsent in the kernel, or `None` (the default) if no limit is to be set.
    fn unsent(&self) -> Option<usize> {
        None
    }
    fn poll_transmit(&mut self, now: Instant) -> Option<Frame>;
    /// Sets the waker to be woken when the application gives a command.
    fn register(&self, waker: &Waker);
    /// The reason to close the tunnel from this side now, if there is one.
    fn poll_close(&mut self) -> Option<Close>;
    /// Gives up all open streams: the tunnel no longer carries data. Called once, before the closing handshake, which
    /// may take as long as [`CLOSE_TIMEOUT`]. Not called if the driver itself is dropped.
    fn give_up(&mut self);
}

struct Driver<'a, E, S> {
    endpoint: &'a mut E,
    socket: WebSocketStream<S>,
    traffic: Arc<Traffic>,
    received: u64,
    /// Bytes handed to the socket since the last time it had passed on everything.
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
    let received = traffic.received();
    let mut driver = Driver { endpoint, socket, traffic, received, held: 0, sleep };
    let ended = poll_fn(|cx| driver.poll(cx)).await;
    driver.endpoint.give_up();
    let goodbye = match &ended {
        Ended::ByUs(close) => Some(close.clone()),
        Ended::Violation(violation) => Some(Close::new(violation.close_code(), violation.to_string())),
        // The library has already queued the answer to the peer's close frame.
        Ended::ByPeer(_) => None,
        Ended::Broken(_) => return ended,
    };
    // If the peer does not answer, the connection is closed anyway.
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
            // Messages that have arrived are read before the silence of the peer is judged: after this machine slept,
            // the peer must not be blamed.
            let read = self.read(cx, now);
            // Frames that arrived before the end of the tunnel are handled before the end: a last body, or when to dial
            // again.
            self.endpoint.work(now);
            read?;
            self.endpoint.handle_timeout(now).map_err(Ended::Violation)?;
            self.endpoint.work(now);
            let may_send = self.write(cx, now)?;
            if let Some(bytes) = self.endpoint.unsent() {
                self.traffic.set_unsent(bytes);
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
        let received = self.traffic.received();
        if received != self.received {
            self.received = received;
            self.endpoint.handle_inbound(now);
        }
        Ok(())
    }

    fn take(&mut self, message: Message, now: Instant) -> Result<(), Ended> {
        match message {
            Message::Binary(bytes) => {
                let frame = Frame::decode(bytes).map_err(Violation::from).map_err(Ended::Violation)?;
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
            // The library answers pings itself; raw frames are never read.
            Message::Ping(_) | Message::Frame(_) => Ok(()),
        }
    }

    /// Hands over everything that may be sent. Returns true if the socket would take more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        let broken = |error| Ended::Broken(Box::new(error));
        loop {
            // Bytes below the lanes cannot be overtaken, and the buffers of WebSocket and TLS would take many.
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

    /// Asks the socket to pass on everything that it holds.
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
        // Frames that were in flight are no longer needed. The loop ends with the peer's close frame or the end of its
        // data.
        while let Some(Ok(message)) = poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx)).await {
            answered |= message.is_close();
        }
        if !answered {
            self.read_until_closed().await;
        }
    }

    /// Reads and drops what the peer still sends, if its messages cannot be read any more. A connection that is closed
    /// with unread bytes is reset, and the reset may overtake our close frame (RFC 6455, section 7.1.1).
    async fn read_until_closed(&mut self) {
        let connection = self.socket.get_mut();
        let mut unread = vec![0; 4096];
        if connection.shutdown().await.is_ok() {
            while matches!(connection.read(&mut unread).await, Ok(1..)) {}
        }
    }
}

/// Decides whether the peer or the network is to blame for a connection that gives no more messages.
fn because(error: WsError) -> Ended {
    match error {
        WsError::Capacity(_) => Ended::Violation(Violation::TooLong),
        // Every broken connection looks like an end without a close frame.
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
