//! A download that survives the end of its tunnel. While the client's connection lives, the relay requests the rest
//! from an agent that has the same link key, and the listener notices a pause instead of an error.
//!
//! Two parts are joined only if they are certain to come from the same recording: both responses must have the same
//! strong entity tag (RFC 9110, section 8.8.3), and the second must begin exactly where the first was cut.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use audiovault_protocol::{
    http::headers,
    limits::ANSWER_BODY_LEN,
    link::{Answered, BodyError},
    message::AgentRequest,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::answer::{Expected, is_expected};
use crate::{
    routing::{
        dispatch::{AnswerBody, RetryPolicy, Routed},
        router::AgentRouter,
    },
    tunnel::registry::AgentTarget,
};

/// How long the listener may get nothing until the agent is back: players buffer some seconds of sound, and a
/// listener waits for about a minute. An agent that was restarted, or whose line was dead, is back long before.
const RETURN_WINDOW: Duration = Duration::from_secs(60);

/// How many times the rest is requested at most without getting a byte of it. A peer relay does not say whether its
/// tunnel was lost or its agent cannot read the recording.
const MOST_IN_VAIN: u32 = 3;

/// What is needed to request the rest.
#[derive(Debug, Clone)]
struct Rest {
    agents: AgentRouter,
    target: AgentTarget,
    /// The first request, unchanged.
    request: AgentRequest,
    etag: HeaderValue,
    /// The first missing byte, and the last one that was requested.
    next: u64,
    last: u64,
    size: u64,
}

type Asking = Pin<Box<dyn Future<Output = Option<AnswerBody>> + Send>>;

/// The body of a recording, from one or more tunnels in turn.
pub(super) struct ResumableBody {
    body: AnswerBody,
    size: SizeHint,
    /// `None` if the response does not say enough to be continued.
    rest: Option<Rest>,
    asking: Option<Asking>,
    /// Since when no data has come.
    waiting: Option<Instant>,
    /// How many times the rest was requested since then.
    asked: u32,
    done: bool,
}

impl std::fmt::Debug for ResumableBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumableBody").field("body", &self.body).finish_non_exhaustive()
    }
}

/// Makes the response to `request` continue after its tunnel ends, if that is possible.
pub(super) fn resumable(
    agents: &AgentRouter,
    target: AgentTarget,
    request: AgentRequest,
    answered: Answered<AnswerBody>,
) -> Answered<ResumableBody> {
    let extent = extent(answered.response.status(), answered.response.headers());
    let rest = extent.filter(|_| request.head.method == "GET").map(|(etag, [next, last, size])| Rest {
        agents: agents.clone(),
        target,
        request,
        etag,
        next,
        last,
        size,
    });
    answered.map(|body| ResumableBody {
        size: body.size_hint(),
        body,
        rest,
        asking: None,
        waiting: None,
        asked: 0,
        done: false,
    })
}

/// The strong entity tag of a response, with the first and last byte that it has and the size of the whole recording.
/// `None` if one of them is missing, or if the response is so short that it came in one piece.
fn extent(status: StatusCode, headers: &HeaderMap) -> Option<(HeaderValue, [u64; 3])> {
    if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return None;
    }
    let etag = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""))?;
    let length = headers::content_length(headers).filter(|length| *length > ANSWER_BODY_LEN as u64)?;
    let (Some(first), Some(size)) = headers::extent(headers) else { return None };
    let last = first.checked_add(length - 1).filter(|last| *last < size)?;
    Some((etag.clone(), [first, last, size]))
}

impl Rest {
    /// The rest of the body, if an agent has it within [`RETURN_WINDOW`] of when the last byte came.
    async fn dispatch(self, waiting: Instant) -> Option<AnswerBody> {
        let policy = RetryPolicy::for_rest(waiting + RETURN_WINDOW);
        match self.agents.send(&self.target, &self.request(), policy).await {
            Ok(routed) => self.continued_by(routed),
            Err(why) => {
                tracing::info!(
                    site = %self.target.site,
                    ?why,
                    code = "download.cut",
                    "a download was cut: no agent with its link key could continue it"
                );
                None
            }
        }
    }

    fn request(&self) -> AgentRequest {
        let mut request = self.request.clone();
        let headers = &mut request.head.headers;
        for condition in
            [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE]
        {
            headers.remove(condition);
        }
        let range = HeaderValue::from_str(&format!("bytes={}-{}", self.next, self.last));
        if let Ok(range) = range {
            headers.insert(header::RANGE, range);
        }
        headers.insert(header::IF_RANGE, self.etag.clone());
        request
    }

    /// The body of a response, if it is exactly the rest.
    fn continued_by(&self, routed: Routed) -> Option<AnswerBody> {
        let Routed { route, answered: Answered { response: answer, .. } } = routed;
        let headers = answer.headers();
        let is_rest = answer.status() == StatusCode::PARTIAL_CONTENT
            && is_expected(Expected::Audio, answer.status(), headers)
            && headers.get(header::ETAG) == Some(&self.etag)
            && headers::extent(headers) == (Some(self.next), Some(self.size))
            && headers::content_length(headers) == Some(self.last - self.next + 1);
        let site = &self.target.site;
        let from = route.name();
        let status = answer.status().as_u16();
        if is_rest {
            tracing::info!(
                %site,
                from,
                at = self.next,
                code = "download.continued",
                "a download continues through another tunnel"
            );
        } else {
            tracing::warn!(
                %site,
                from,
                status,
                code = "download.recording_changed",
                "a download was cut: the recording has changed"
            );
        }
        is_rest.then(|| answer.into_body())
    }
}

impl ResumableBody {
    /// Starts to request the rest. Returns `false` if that is not possible.
    fn dispatch(&mut self, error: &BodyError) -> bool {
        let is_lost = *error == BodyError::Lost && self.asked < MOST_IN_VAIN;
        let Some(rest) = self.rest.as_ref().filter(|_| is_lost) else { return false };
        self.asked += 1;
        let since = *self.waiting.get_or_insert_with(Instant::now);
        self.asking = Some(Box::pin(rest.clone().dispatch(since)));
        true
    }

    /// Notes the bytes that have come.
    fn passed(&mut self, bytes: u64) {
        (self.waiting, self.asked) = (None, 0);
        if let Some(rest) = &mut self.rest {
            rest.next += bytes;
        }
    }

    fn is_whole(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.next > rest.last)
    }
}

impl Body for ResumableBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some(asking) = &mut this.asking {
                let answered = ready!(asking.as_mut().poll(cx));
                this.asking = None;
                let Some(body) = answered else {
                    this.done = true;
                    return Poll::Ready(Some(Err(BodyError::Lost)));
                };
                this.body = body;
            }
            if this.done {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    this.passed(frame.data_ref().map_or(0, Bytes::len) as u64);
                    return Poll::Ready(Some(Ok(frame)));
                }
                // All promised bytes have come. The lost end would have added no other information.
                Some(Err(BodyError::Lost)) if this.is_whole() => this.done = true,
                Some(Err(error)) if this.dispatch(&error) => {}
                end => {
                    this.done = true;
                    return Poll::Ready(end);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done || (self.asking.is_none() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
