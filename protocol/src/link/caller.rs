//! The relay's end of a tunnel as an application sees it: call with a request, get a response.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::{
    BodyError, Close, Counted, Ended, Traffic, TunnelBody,
    body::{Hold, Slot},
    driver::{Endpoint, drive},
    mailbox::{Call, Mailbox},
};
use crate::{
    context::{Client, RequestId},
    credit::Budgets,
    frame::{Frame, StreamId},
    headers,
    limits::{
        AGENT_DEADLINE, FULL_BURST, MAX_HEAD_LEN, MAX_REQUEST_BODY_LEN, MAX_WAITING_CALLS, RELAY_DEADLINE,
    },
    message::{CloseCode, Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
    mux::{OpenError, PingPayload, RelayEvent, RelayMux, Violation},
};

/// Why a call has no response. The agent may or may not have seen the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error(transparent)]
    NotOpened(#[from] OpenError),
    /// The request does not fit into a REQUEST frame; nothing was sent.
    #[error("the request is too large for the tunnel")]
    TooLarge,
    /// No answer came within the deadline.
    #[error("the agent did not answer in time")]
    Deadline,
    /// The agent had no room and did nothing.
    #[error("the agent is shutting down")]
    Refused,
    /// The agent gave the request up.
    #[error("the agent gave the request up: {1} ({code})", code = u16::from(*.0))]
    Reset(ResetCode, String),
    /// The agent's answer is no HTTP response.
    #[error("the agent's answer is not a valid response")]
    Malformed,
    /// The tunnel ended before the answer.
    #[error("the tunnel ended before the answer came")]
    Lost,
}

/// What an agent tells outside of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayNotice {
    /// It introduced itself; [`Caller::welcome`] is expected.
    Hello(Box<Hello>),
    /// How its recordings are.
    Status(Status),
    /// It will go and takes no more requests.
    Goaway(Goaway),
}

/// A handle on the relay's end of one tunnel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    mailbox: Arc<Mailbox>,
    traffic: Arc<Traffic>,
}

impl Caller {
    /// Sends a request through the tunnel and waits for the head of its response, at most
    /// [`RELAY_DEADLINE`]. Dropping the future, or the body later, stops the agent.
    ///
    /// The request's extensions [`RequestId`] and [`Client`] travel with it; the response's extension
    /// [`crate::context::Audit`] holds what the agent wants recorded.
    ///
    /// # Errors
    /// [`CallError`] when there is no response.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<TunnelBody>, CallError> {
        let (head, body) = to_wire(request)?;
        let slot = Arc::new(Slot::default());
        let hold = Hold { slot: Arc::clone(&slot), mailbox: Arc::clone(&self.mailbox) };
        {
            let mut inbox = self.mailbox.lock();
            if inbox.ended {
                return Err(CallError::NotOpened(OpenError::Closed));
            }
            if inbox.calls.len() >= MAX_WAITING_CALLS {
                return Err(CallError::NotOpened(OpenError::TooManyStreams));
            }
            inbox.calls.push_back(Call { head, body, slot: Arc::clone(&slot) });
        }
        self.mailbox.waker.wake();
        let head = poll_fn(|cx| slot.poll_head(cx)).await?;
        from_wire(*head, hold)
    }

    /// Answers [`RelayNotice::Hello`].
    pub fn welcome(&self, welcome: Welcome) {
        self.mailbox.leave(|inbox| inbox.welcome = Some(welcome));
    }

    /// Says that this relay will go; the tunnel closes when what is open has finished.
    pub fn go_away(&self, goaway: Goaway) {
        self.mailbox.leave(|inbox| inbox.goaway = Some(goaway));
    }

    /// Closes the tunnel now; what is open is cut.
    pub fn close(&self, close: Close) {
        self.mailbox.leave(|inbox| inbox.close = Some(close));
    }

    /// Streams open now.
    pub fn open_streams(&self) -> usize {
        self.mailbox.gauges.open_streams()
    }

    /// The latest round trip, once there was one.
    pub fn rtt(&self) -> Option<Duration> {
        self.mailbox.gauges.rtt()
    }

    /// Octets that went through the tunnel.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

fn to_wire(request: Request<Bytes>) -> Result<(RequestHead, Bytes), CallError> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let head = RequestHead {
        request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        method: parts.method.as_str().to_owned(),
        target: target.to_owned(),
        headers: headers::of_request(&parts.headers),
        deadline_ms: u32::try_from(AGENT_DEADLINE.as_millis()).unwrap_or(u32::MAX),
        client: parts.extensions.get::<Client>().cloned().unwrap_or_default(),
    };
    if body.len() > MAX_REQUEST_BODY_LEN || !fits(&head) {
        return Err(CallError::TooLarge);
    }
    Ok((head, body))
}

/// Whether a head fits into its frame. Nearly every one is so short that it would fit with every octet escaped
/// (`\u00XX`); only the others are tried.
fn fits(head: &RequestHead) -> bool {
    let texts = [&head.request_id, &head.method, &head.target].map(String::len).iter().sum::<usize>();
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
    let client = [&head.client.address, &head.client.user_agent];
    let client: usize = client.into_iter().flatten().map(String::len).sum();
    // The names of the fields, numbers and punctuation take less than the last.
    let most = 6 * (texts + headers + client) + 256;
    most <= MAX_HEAD_LEN || serde_json::to_vec(head).is_ok_and(|json| json.len() <= MAX_HEAD_LEN)
}

fn from_wire(head: ResponseHead, hold: Hold) -> Result<Response<TunnelBody>, CallError> {
    let status = StatusCode::from_u16(head.status).map_err(|_| CallError::Malformed)?;
    if status.is_informational() {
        return Err(CallError::Malformed);
    }
    let stream = hold.slot.lock().stream.ok_or(CallError::Malformed)?;
    let size = headers::content_length(&head.headers);
    let mut response = Response::new(TunnelBody::new(hold, stream, size));
    *response.status_mut() = status;
    *response.headers_mut() = head.headers;
    if let Some(audit) = head.audit {
        response.extensions_mut().insert(audit);
    }
    Ok(response)
}

/// The relay's end of one tunnel, to be run by a task of its own.
pub struct RelayLink<N> {
    mux: RelayMux,
    mailbox: Arc<Mailbox>,
    slots: HashMap<StreamId, Arc<Slot>>,
    notify: N,
    leaving: Option<Close>,
    close: Option<Close>,
}

impl<N> std::fmt::Debug for RelayLink<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayLink").field("mux", &self.mux).finish_non_exhaustive()
    }
}

impl<N: FnMut(RelayNotice)> RelayLink<N> {
    /// The end of a tunnel that was just upgraded; `notify` is called with what the agent tells outside of
    /// streams and must not block.
    pub fn new(budgets: Budgets, traffic: Arc<Traffic>, notify: N) -> (Self, Caller) {
        let mailbox = Arc::new(Mailbox::default());
        #[expect(clippy::disallowed_methods, reason = "a tunnel begins now")]
        let now = tokio::time::Instant::now().into_std();
        let mux = RelayMux::new(budgets, now);
        let caller = Caller { mailbox: Arc::clone(&mailbox), traffic };
        (Self { mux, mailbox, slots: HashMap::new(), notify, leaving: None, close: None }, caller)
    }

    /// Runs the tunnel to its end. Calls that were not answered fail, bodies under way are cut.
    pub fn run<S>(
        self,
        socket: WebSocketStream<Counted<S>>,
        traffic: Arc<Traffic>,
    ) -> impl Future<Output = Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // An async function would keep room for `self` twice, a kibibyte for every tunnel.
        let mut link = self;
        async move { drive(&mut link, socket, traffic).await }
    }

    fn open(&mut self, call: Call, now: Instant) {
        let mut state = call.slot.lock();
        if state.abandoned {
            return;
        }
        let opened = self.mux.open(call.head, call.body, RELAY_DEADLINE, now);
        state.stream = opened.ok();
        drop(state);
        match opened {
            Ok(stream) => {
                self.slots.insert(stream, call.slot);
            }
            Err(error) => call.slot.update(|state| state.head = Some(Err(error.into()))),
        }
    }

    fn take_mail(&mut self, now: Instant) {
        let mail = {
            let mut inbox = self.mailbox.lock();
            let close = inbox.close.take();
            self.close = self.close.take().or(close);
            std::mem::take(&mut *inbox)
        };
        for (stream, cost) in mail.consumed {
            self.mux.consume(stream, cost, now);
        }
        for stream in mail.released {
            self.slots.remove(&stream);
            self.mux.release(stream);
        }
        if let Some(welcome) = mail.welcome {
            self.mux.welcome(welcome);
        }
        for call in mail.calls {
            self.open(call, now);
        }
        if let Some(goaway) = mail.goaway {
            self.leaving = Some(Close::new(CloseCode::GoingAway, goaway.reason.clone()));
            self.mux.go_away(goaway);
        }
    }

    fn on_event(&mut self, event: RelayEvent) {
        match event {
            RelayEvent::Hello(hello) => (self.notify)(RelayNotice::Hello(hello)),
            RelayEvent::Status(status) => (self.notify)(RelayNotice::Status(status)),
            RelayEvent::Goaway(goaway) => {
                self.leaving.get_or_insert_with(|| Close::new(CloseCode::Normal, "goodbye"));
                (self.notify)(RelayNotice::Goaway(goaway));
            }
            RelayEvent::Response(stream, head) => self.tell(stream, |state| state.head = Some(Ok(head))),
            RelayEvent::Data(stream, data) => self.tell(stream, |state| {
                // The listener that has gone gives the window back by releasing the stream.
                if !state.abandoned {
                    state.chunks.push_back(data);
                }
            }),
            RelayEvent::End(stream) => self.tell(stream, |state| state.end = Some(Ok(()))),
            RelayEvent::Reset(stream, code, reason) => {
                let unanswered = match code {
                    ResetCode::DeadlineExceeded => CallError::Deadline,
                    ResetCode::Refused => CallError::Refused,
                    ResetCode::Cancelled
                    | ResetCode::ReadFailed
                    | ResetCode::Stalled
                    | ResetCode::Malformed
                    | ResetCode::Other(_) => CallError::Reset(code, reason.clone()),
                };
                self.tell(stream, |state| {
                    state.head.get_or_insert(Err(unanswered));
                    state.end = Some(Err(BodyError::Reset(code, reason)));
                });
            }
        }
    }

    fn tell(&self, stream: StreamId, change: impl FnOnce(&mut super::body::SlotState)) {
        if let Some(slot) = self.slots.get(&stream) {
            slot.update(change);
        }
    }
}

impl<N> Drop for RelayLink<N> {
    fn drop(&mut self) {
        let unopened = {
            let mut inbox = self.mailbox.lock();
            inbox.ended = true;
            std::mem::take(&mut inbox.calls)
        };
        self.mailbox.gauges.set_open_streams(0);
        for call in unopened {
            call.slot.update(|state| state.head = Some(Err(OpenError::Closed.into())));
        }
        for slot in self.slots.values() {
            slot.update(|state| {
                state.head.get_or_insert(Err(CallError::Lost));
                state.end.get_or_insert(Err(BodyError::Lost));
            });
        }
    }
}

impl<N: FnMut(RelayNotice)> Endpoint for RelayLink<N> {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        self.mux.handle_frame(frame, now)
    }

    fn handle_inbound(&mut self, now: Instant) {
        self.mux.handle_inbound(now);
    }

    fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.mux.handle_pong(payload, now);
        self.mailbox.gauges.set_rtt(self.mux.rtt());
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        self.mux.handle_timeout(now)
    }

    fn work(&mut self, now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            self.on_event(event);
        }
        self.take_mail(now);
        self.mailbox.gauges.set_open_streams(self.mux.open_streams());
    }

    fn poll_timeout(&self, may_send: bool) -> Instant {
        self.mux.poll_timeout(may_send)
    }

    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.mux.poll_ping(now)
    }

    /// Requests are small, and few wait for longer than a moment.
    fn burst(&self) -> usize {
        FULL_BURST
    }

    fn unsent(&self) -> Option<usize> {
        None
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Frame> {
        self.mux.poll_transmit()
    }

    fn register(&self, waker: &Waker) {
        self.mailbox.waker.register(waker);
    }

    fn poll_close(&mut self) -> Option<Close> {
        if self.close.is_some() {
            return self.close.take();
        }
        // The relay alone opens streams, so it alone knows when none can come any more.
        if self.leaving.is_some() && self.mux.is_drained() {
            return self.leaving.take();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_fits_exactly_when_what_is_written_of_it_does() {
        for (octet, len) in
            [("a", 10), ("a", 5_400), ("a", 32_600), ("a", 40_000), ("\u{1}", 5_380), ("\u{1}", 5_500)]
        {
            let head = RequestHead {
                request_id: "r".to_owned(),
                method: "GET".to_owned(),
                target: octet.repeat(len),
                headers: http::HeaderMap::from_iter([(
                    http::header::RANGE,
                    http::HeaderValue::from_static("bytes=0-"),
                )]),
                deadline_ms: u32::MAX,
                client: Client::default(),
            };
            let written = serde_json::to_vec(&head).unwrap().len();
            assert_eq!(fits(&head), written <= MAX_HEAD_LEN, "{len} times {octet:?}");
        }
    }
}
