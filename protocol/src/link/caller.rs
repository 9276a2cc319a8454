//! The relay's end of a tunnel, as an application sees it: call it with a request, get a response.

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{Response, StatusCode};

use super::{
    Close, Traffic, TunnelBody,
    body::{Hold, Slot},
    mailbox::{Call, Mailbox},
};
use crate::{
    http::{context::Audit, headers},
    limits::{MAX_HEAD_LEN, MAX_REQUEST_BODY_LEN, MAX_WAITING_CALLS, RELAY_DEADLINE},
    message::{AgentRequest, Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
    mux::OpenError,
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
    /// No response came within the deadline.
    #[error("the agent did not answer in time")]
    Deadline,
    /// The agent is leaving, refused the request and did nothing for it.
    #[error("the agent is shutting down")]
    Refused,
    /// The agent gave the request up.
    #[error("the agent reset the request: {1} ({code})", code = u16::from(*.0))]
    Reset(ResetCode, String),
    /// The agent's answer is not a valid HTTP response.
    #[error("the agent's response is not valid")]
    Malformed,
    /// The tunnel ended before the response came.
    #[error("the tunnel ended before the response came")]
    Lost,
}

/// The response of an agent.
#[derive(Debug)]
pub struct Answered<B> {
    /// What the client may get of it.
    pub response: Response<B>,
    /// What the agent wants in the audit log.
    pub audit: Option<Audit>,
}

impl<B> Answered<B> {
    /// The same response with a body that is made from its own.
    pub fn map<T>(self, body: impl FnOnce(B) -> T) -> Answered<T> {
        Answered { response: self.response.map(body), audit: self.audit }
    }
}

/// A message of the agent that belongs to no stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayNotice {
    /// The agent introduced itself; [`Caller::welcome`] is expected.
    Hello(Box<Hello>),
    /// The state of its recordings.
    Status(Status),
    /// The agent is about to leave and takes no more requests.
    Goaway(Goaway),
}

/// A handle on the relay's end of one tunnel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    mailbox: Arc<Mailbox>,
    traffic: Arc<Traffic>,
}

impl Caller {
    pub(super) fn new(mailbox: Arc<Mailbox>, traffic: Arc<Traffic>) -> Self {
        Self { mailbox, traffic }
    }

    /// Sends a request through the tunnel and waits for the head of its response, at most [`RELAY_DEADLINE`].
    ///
    /// # Errors
    /// The same as [`Caller::call_within`].
    pub async fn call(&self, request: AgentRequest) -> Result<Answered<TunnelBody>, CallError> {
        self.call_within(request, RELAY_DEADLINE).await
    }

    /// Sends a request through the tunnel and waits for the head of its response, at most for `patience`. The agent
    /// gets four fifths of that time as its deadline. Dropping the future, or later the body, stops the agent.
    ///
    /// # Errors
    /// [`CallError`] if there is no response.
    pub async fn call_within(
        &self,
        request: AgentRequest,
        patience: Duration,
    ) -> Result<Answered<TunnelBody>, CallError> {
        let AgentRequest { mut head, body } = request;
        head.deadline_ms = u32::try_from((patience * 4 / 5).as_millis()).unwrap_or(u32::MAX);
        if body.len() > MAX_REQUEST_BODY_LEN || !fits(&head) {
            return Err(CallError::TooLarge);
        }
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
            inbox.calls.push_back(Call { head, body, slot: Arc::clone(&slot), patience });
        }
        self.mailbox.waker.wake();
        let head = poll_fn(|cx| slot.poll_head(cx)).await?;
        from_wire(*head, hold)
    }

    /// Answers [`RelayNotice::Hello`].
    pub fn welcome(&self, welcome: Welcome) {
        self.mailbox.leave(|inbox| inbox.welcome = Some(welcome));
    }

    /// Announces that this relay will go away. The tunnel closes when the open streams have finished.
    pub fn go_away(&self, goaway: Goaway) {
        self.mailbox.leave(|inbox| inbox.goaway = Some(goaway));
    }

    /// Closes the tunnel now; open streams are cut.
    pub fn close(&self, close: Close) {
        self.mailbox.leave(|inbox| inbox.close = Some(close));
    }

    /// Number of open streams.
    pub fn open_streams(&self) -> usize {
        self.mailbox.gauges.open_streams()
    }

    /// True if the agent is silent when something should have been received from it.
    pub fn is_silent(&self) -> bool {
        self.mailbox.gauges.is_silent()
    }

    /// Waits until the agent is silent when something should have been received from it.
    pub async fn silent(&self) {
        let mut silence = self.mailbox.gauges.silence();
        // This object keeps the sender alive, so the wait cannot end in another way.
        let _ = silence.wait_for(|silent| *silent).await;
    }

    /// The latest round trip, if one was measured yet.
    pub fn rtt(&self) -> Option<Duration> {
        self.mailbox.gauges.rtt()
    }

    /// Counts the bytes that went through the tunnel.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

/// True if a head fits into its frame. Nearly every head is so short that it would fit even with every byte escaped
/// (`\u00XX`); only a longer one is really encoded.
fn fits(head: &RequestHead) -> bool {
    let texts = [&head.request_id, &head.method, &head.target].map(String::len).iter().sum::<usize>();
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum();
    let client = [&head.client.address, &head.client.user_agent];
    let client: usize = client.into_iter().flatten().map(String::len).sum();
    // Field names, numbers and punctuation take less than the last term.
    let most = 6 * (texts + headers + client) + 256;
    most <= MAX_HEAD_LEN || serde_json::to_vec(head).is_ok_and(|json| json.len() <= MAX_HEAD_LEN)
}

fn from_wire(head: ResponseHead, hold: Hold) -> Result<Answered<TunnelBody>, CallError> {
    let status = StatusCode::from_u16(head.status).map_err(|_| CallError::Malformed)?;
    if status.is_informational() {
        return Err(CallError::Malformed);
    }
    let stream = hold.slot.lock().stream.ok_or(CallError::Malformed)?;
    let size = headers::content_length(&head.headers);
    let mut response = Response::new(TunnelBody::new(hold, stream, size));
    *response.status_mut() = status;
    *response.headers_mut() = head.headers;
    Ok(Answered { response, audit: head.audit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::context::Client;

    #[test]
    fn a_head_fits_exactly_when_what_is_written_of_it_does() {
        for (byte, len) in
            [("a", 10), ("a", 5_400), ("a", 32_600), ("a", 40_000), ("\u{1}", 5_380), ("\u{1}", 5_500)]
        {
            let head = RequestHead {
                request_id: "r".to_owned(),
                method: "GET".to_owned(),
                target: byte.repeat(len),
                headers: http::HeaderMap::from_iter([(
                    http::header::RANGE,
                    http::HeaderValue::from_static("bytes=0-"),
                )]),
                deadline_ms: u32::MAX,
                client: Client::default(),
            };
            let written = serde_json::to_vec(&head).unwrap().len();
            assert_eq!(fits(&head), written <= MAX_HEAD_LEN, "{len} times {byte:?}");
        }
    }
}
