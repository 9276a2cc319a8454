//! The driver: one task that polls a tunnel's socket, timer and commands around a pure multiplexer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::{io::AsyncWriteExt, time::Sleep};

use super::{
    Role, Socket, Traffic,
    transport::{Received, Transport},
    websocket::Message,
};
use crate::{
    frame::{Frame, one_line},
    limits::{CLOSE_TIMEOUT, FULL_BURST, MAX_REASON_LEN},
    message::CloseCode,
    mux::{PingPayload, Violation},
};

/// Bytes that are read before the other directions get their turn. Enough to make a wake-up worth its cost, but few
/// enough that credit flows back while bulk comes in, and that they fit into the processor's cache.
const READ_TURN_LEN: usize = 512 * 1024;

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
    Broken(#[source] io::Error),
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
    socket: Socket<S>,
    traffic: Arc<Traffic>,
    received: u64,
    /// Bytes handed to the socket since the last time it had passed on everything.
    held: usize,
    sleep: Pin<Box<Sleep>>,
}

/// Runs a tunnel to its end.
pub(crate) async fn drive<E, S>(endpoint: &mut E, socket: Socket<S>, traffic: Arc<Traffic>) -> Ended
where
    E: Endpoint,
    S: Transport,
{
    let sleep = Box::pin(tokio::time::sleep_until(endpoint.poll_timeout(true).into()));
    let received = traffic.received();
    let mut driver = Driver { endpoint, socket, traffic, received, held: 0, sleep };
    let ended = poll_fn(|cx| driver.poll(cx)).await;
    driver.endpoint.give_up();
    let goodbye = match &ended {
        Ended::ByUs(close) => Some(close.clone()),
        Ended::Violation(violation) => Some(Close::new(violation.close_code(), violation.to_string())),
        // The socket has already queued the answer to the peer's close frame.
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
    S: Transport,
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
        let Self { endpoint, socket, .. } = self;
        let mut read = 0;
        while let Poll::Ready(received) =
            socket.poll_receive(cx, &mut |message| take(&mut **endpoint, message, now))
        {
            read += received?;
            if read >= READ_TURN_LEN {
                cx.waker().wake_by_ref();
                break;
            }
        }
        let received = self.traffic.received();
        if received != self.received {
            self.received = received;
            self.endpoint.handle_inbound(now);
        }
        Ok(())
    }

    /// Hands over everything that may be sent. Returns true if the socket would take more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        loop {
            // Bytes below the lanes cannot be overtaken, and the buffers of WebSocket and TLS would take many.
            if self.held >= self.endpoint.burst() && self.flush(cx)?.is_pending() {
                return Ok(false);
            }
            match self.socket.poll_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready.map_err(Ended::Broken)?,
            }
            if let Some(payload) = self.endpoint.poll_ping(now) {
                self.socket.ping(&payload);
                self.held += payload.len();
                continue;
            }
            let Some(frame) = self.endpoint.poll_transmit(now) else { break };
            self.held += self.socket.send(&frame);
        }
        let _ = self.flush(cx)?;
        Ok(true)
    }

    /// Asks the socket to pass on everything that it holds.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Ended> {
        match self.socket.poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(Ended::Broken(error)),
            Poll::Ready(Ok(())) => {
                self.held = 0;
                Ok(Poll::Ready(()))
            }
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// The closing handshake (RFC 6455, section 7.1.2). The relay ends the connection when both sides have closed, and
    /// the agent waits for that.
    async fn close(&mut self, goodbye: Option<Close>) {
        if let Some(close) = goodbye {
            self.socket.close(close.code.into(), &close.reason);
        }
        let _ = poll_fn(|cx| self.socket.poll_flush(cx)).await;
        // Frames that were in flight are no longer needed.
        while !(self.socket.is_closed_by_peer() && self.socket.role() == Role::Server) {
            let received = poll_fn(|cx| self.socket.poll_receive(cx, &mut |_| Ok(()))).await;
            if received.is_err() {
                break;
            }
        }
        if !self.socket.is_closed_by_peer() {
            self.read_until_closed().await;
        }
    }

    /// Reads and drops what the peer still sends, if its messages cannot be read any more. A connection that is closed
    /// with unread bytes is reset, and the reset may overtake our close frame (RFC 6455, section 7.1.1).
    async fn read_until_closed(&mut self) {
        let connection = self.socket.stream();
        if connection.shutdown().await.is_ok() {
            while let Ok(Received::Bytes(_)) = poll_fn(|cx| connection.poll_receive(cx, &mut |_| ())).await {}
        }
    }
}

fn take(endpoint: &mut impl Endpoint, message: Message, now: Instant) -> Result<(), Ended> {
    match message {
        Message::Binary(bytes) => {
            let frame = Frame::decode(bytes).map_err(Violation::from).map_err(Ended::Violation)?;
            endpoint.handle_frame(frame, now).map_err(Ended::Violation)
        }
        Message::Pong(payload) => {
            endpoint.handle_pong(&payload, now);
            Ok(())
        }
        Message::Close(close) => Err(Ended::ByPeer(close.map_or_else(
            || Close::new(CloseCode::Normal, "no reason was given"),
            |(code, reason)| Close::new(code.into(), one_line(cut(&reason, MAX_REASON_LEN))),
        ))),
        // The socket answers pings itself.
        Message::Ping(_) => Ok(()),
    }
}

fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
