//! The messages between relays: a request for an agent is sent as the same REQUEST frame that the agent's tunnel would
//! carry, after the site and the key of the link.
//!
//! A call is the body of `POST /call`; [`PROOF`] proves all of it. The agent's response comes back with status 200,
//! its head in [`HEAD`] and its body unchanged. Any other response of the peer relay is a problem, with [`NO_AGENT`] if
//! another relay may have the agent. Every response to a proved request has proofs too: see [`super::seal`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use audiovault_protocol::{
    frame::{Frame, StreamId},
    identity::{signed_link::LinkKeyId, site::SiteId},
    limits::{FRAME_HEADER_LEN, MAX_HEAD_LEN, MAX_REQUEST_BODY_LEN},
    message::{AgentRequest, RequestHead},
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderName;

use crate::tunnel::registry::AgentTarget;

/// Carries the proof of a call: time, sender, number, receiver, and an HMAC.
pub const PROOF: HeaderName = HeaderName::from_static("audiovault-proof");
/// Carries the proof of a response's head.
pub(super) const ANSWER_PROOF: HeaderName = HeaderName::from_static("audiovault-answer-proof");
/// Carries the proof of a response's body, after it.
pub(super) const BODY_PROOF: HeaderName = HeaderName::from_static("audiovault-body-proof");
/// Carries the head of an agent's response: JSON of a RESPONSE, in base64.
pub const HEAD: HeaderName = HeaderName::from_static("audiovault-head");
/// Says that no agent was asked, or that its tunnel was lost: `offline`, `other-key` or `lost`.
pub const NO_AGENT: HeaderName = HeaderName::from_static("audiovault-nobody");

/// The longest call: the frame, with a site's name and a key before it.
pub const MAX_CALL_LEN: usize = 256 + FRAME_HEADER_LEN + 4 + MAX_HEAD_LEN + MAX_REQUEST_BODY_LEN;

/// The call does not have the agreed form. Its sender has another release or another purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a request for an agent: run the same release on every relay")]
pub struct NotACall;

/// A request for an agent that is connected to a peer relay.
#[derive(Debug)]
pub struct NodeCall {
    /// Which agent is wanted.
    pub target: AgentTarget,
    /// The request for the agent.
    pub request: AgentRequest,
}

impl NodeCall {
    /// The bytes of a call. `patience` is how long the sender waits for the response.
    pub(super) fn encode(target: &AgentTarget, request: &AgentRequest, patience: Duration) -> Bytes {
        let deadline_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let head = RequestHead { deadline_ms, ..request.head.clone() };
        let frame = Frame::Request(StreamId::FIRST, Box::new(head), request.body.clone()).encode();
        let key = target.key.map(|key| key.to_string()).unwrap_or_default();
        let mut call = BytesMut::with_capacity(2 + target.site.as_str().len() + key.len() + frame.len());
        for text in [target.site.as_str(), &key] {
            // Neither a DNS label nor a key id is longer than this.
            call.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
            call.put_slice(text.as_bytes());
        }
        call.put_slice(&frame);
        call.freeze()
    }

    /// Reads a call whose proof is correct.
    ///
    /// # Errors
    /// [`NotACall`].
    pub fn decode(mut call: Bytes) -> Result<Self, NotACall> {
        let site = take_text(&mut call).and_then(|text| SiteId::parse(&text).ok()).ok_or(NotACall)?;
        let key = match take_text(&mut call).ok_or(NotACall)? {
            none if none.is_empty() => None,
            key => Some(LinkKeyId::try_from(key).map_err(|_| NotACall)?),
        };
        let Ok(Frame::Request(_, head, body)) = Frame::decode(call) else { return Err(NotACall) };
        Ok(Self { target: AgentTarget { site, key }, request: AgentRequest { head: *head, body } })
    }
}

fn take_text(call: &mut Bytes) -> Option<String> {
    let len = usize::from(call.try_get_u8().ok()?);
    if call.len() < len {
        return None;
    }
    String::from_utf8(call.split_to(len).to_vec()).ok()
}

/// Seconds since the Unix epoch.
pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::http::context::Client;
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    fn call(key: Option<&str>) -> Bytes {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::COOKIE, HeaderValue::from_static("secret"));
        let head = RequestHead {
            request_id: "r1".to_owned(),
            method: "POST".to_owned(),
            target: "/search?callid=1.2".to_owned(),
            headers,
            deadline_ms: 0,
            client: Client { address: Some("192.0.2.1".to_owned()), user_agent: None },
        };
        let request = AgentRequest { head, body: Bytes::from_static(b"{}") };
        let key = key.map(|key| key.to_owned().try_into().unwrap());
        let target = AgentTarget { site: SiteId::parse("acme").unwrap(), key };
        NodeCall::encode(&target, &request, Duration::from_secs(9))
    }

    #[test]
    fn a_call_says_who_is_wanted_what_is_asked_and_who_asks() {
        let read = NodeCall::decode(call(Some("00112233445566aa"))).unwrap();
        assert_eq!(read.target.site.as_str(), "acme");
        assert_eq!(read.target.key.unwrap().to_string(), "00112233445566aa");
        let AgentRequest { head, body } = read.request;
        assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/search?callid=1.2"));
        assert_eq!(head.headers.len(), 1, "what does not cross a tunnel does not cross here");
        assert_eq!(&body[..], b"{}");
        assert_eq!((head.request_id.as_str(), head.deadline_ms), ("r1", 9000));
        assert_eq!(head.client.address.as_deref(), Some("192.0.2.1"));
        assert_eq!(NodeCall::decode(call(None)).unwrap().target.key, None);
    }

    #[test]
    fn a_cut_or_different_message_is_not_a_call() {
        let whole = call(Some("00112233445566aa"));
        for len in 0..whole.len() - 2 {
            assert_eq!(NodeCall::decode(whole.slice(..len)).unwrap_err(), NotACall, "{len} bytes");
        }
        let mut other = whole.to_vec();
        other[1] = b'-';
        assert_eq!(NodeCall::decode(other.into()).unwrap_err(), NotACall);
    }
}
