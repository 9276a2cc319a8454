//! The proof that a response comes from the relay that was asked, and belongs to exactly this request. The proof of
//! the head comes with the head; that of the body follows the body, as a trailer (RFC 9112, section 7.1.2). With TLS
//! between relays the body needs no proof: both sides are known by their certificates, and nothing on the way can
//! change it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use audiovault_protocol::link::BodyError;
use axum::{body::Body as AnyBody, response::Response as AnyResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    key::{BodyProof, ClusterKey, Stamp},
    wire::{ANSWER_PROOF, BODY_PROOF, HEAD, NO_AGENT},
};

/// Seals the response to one request.
#[derive(Debug)]
pub struct Seal {
    pub(super) key: ClusterKey,
    pub(super) stamp: Stamp,
    /// Whether the body needs its own proof.
    pub(super) with_body: bool,
}

impl Seal {
    /// The response with its proofs.
    pub fn close(self, answer: AnyResponse) -> AnyResponse {
        let (mut head, body) = answer.into_parts();
        let proof = self.key.prove_answer(&self.stamp, &parts_of(head.status.as_str(), &head.headers));
        if let Ok(proof) = HeaderValue::try_from(proof) {
            head.headers.insert(ANSWER_PROOF, proof);
        }
        if !self.with_body {
            return Response::from_parts(head, body);
        }
        head.headers.insert(header::TRAILER, HeaderValue::from(BODY_PROOF));
        let proof = self.key.body_proof(&self.stamp);
        Response::from_parts(head, AnyBody::new(SealedBody { body, proof, is_finished: false }))
    }

    /// Checks the proof of a response. `None` if it comes from elsewhere or answers another request.
    pub(super) fn open(self, answer: Response<Incoming>) -> Option<Response<ProvenBody>> {
        let proof = answer.headers().get(ANSWER_PROOF)?;
        let status = answer.status();
        let parts = parts_of(status.as_str(), answer.headers());
        if !self.key.proves_answer(&self.stamp, &parts, proof.as_bytes()) {
            return None;
        }
        let proof = self.with_body.then(|| self.key.body_proof(&self.stamp));
        Some(answer.map(|body| ProvenBody { body, proof, size: None, left: None, held: None }))
    }
}

/// The parts of a response that the receiver uses before there is a body.
fn parts_of<'a>(status: &'a str, headers: &'a HeaderMap) -> [&'a [u8]; 4] {
    let value = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    [status.as_bytes(), value(HEAD), value(NO_AGENT), value(header::RETRY_AFTER)]
}

/// A body followed by its proof.
#[derive(Debug)]
struct SealedBody {
    body: AnyBody,
    proof: BodyProof,
    is_finished: bool,
}

impl Body for SealedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_finished {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.proof.passed(data);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error)),
            None => {
                self.is_finished = true;
                let proof = HeaderValue::try_from(self.proof.to_text()).ok();
                let trailers = proof.map(|proof| HeaderMap::from_iter([(BODY_PROOF, proof)]));
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
        })
    }
}

/// The body of a response. It ends with an error unless its proof is correct.
#[derive(Debug)]
pub struct ProvenBody {
    body: Incoming,
    /// `None` if no proof is needed, or once it was correct.
    proof: Option<BodyProof>,
    /// The length in bytes, as the head of the agent's response says.
    size: Option<u64>,
    /// The number of these bytes that are still to come.
    left: Option<u64>,
    /// The end of the body, kept back until its proof has come: a receiver that has all promised bytes would read no
    /// further.
    held: Option<Bytes>,
}

impl ProvenBody {
    /// The same body, with the length in the head of the agent's response.
    pub(super) fn with_size(self, size: Option<u64>) -> Self {
        Self { size, left: size, ..self }
    }

    /// The part of a frame that may be passed on before the proof has come. Drops what is over the promised length.
    fn before_proof(&mut self, data: Bytes) -> Option<Bytes> {
        let Some(left) = &mut self.left else { return Some(data) };
        *left = left.saturating_sub(data.len() as u64);
        if *left > 0 {
            return Some(data);
        }
        self.held.get_or_insert(data);
        None
    }
}

impl Body for ProvenBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None if this.proof.is_none() => return Poll::Ready(None),
                // It is not known whether the agent, its tunnel, the relay or the connection broke.
                Some(Err(_)) | None => return Poll::Ready(Some(Err(BodyError::Lost))),
            };
            match (frame.into_data(), &mut this.proof) {
                (Ok(data), None) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                (Ok(data), Some(proof)) => {
                    proof.passed(&data);
                    if let Some(data) = this.before_proof(data) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                (Err(trailers), Some(proof)) => {
                    let trailers = trailers.into_trailers().unwrap_or_default();
                    if !trailers.get(BODY_PROOF).is_some_and(|to_text| proof.is(to_text.as_bytes())) {
                        tracing::warn!(
                            code = "peer.response_modified",
                            "the response of a peer relay was modified in transit"
                        );
                        return Poll::Ready(Some(Err(BodyError::Changed)));
                    }
                    this.proof = None;
                    return Poll::Ready(this.held.take().map(|data| Ok(Frame::data(data))));
                }
                (Err(_), None) => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.proof.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.size.map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}
