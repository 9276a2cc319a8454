//! Makes the public response from the agent's: nothing that a hostile agent could send must reach a browser. The
//! response to a search is read whole before it is passed on: clients follow its links because they are the relay's.

use std::sync::atomic::Ordering;

use audiovault_common::http_error::HttpError;
use audiovault_protocol::{
    http::{
        disposition::{content_disposition, read_disposition},
        problem::PROBLEM_JSON,
        search_answer::{MAX_SEARCH_ANSWER_LEN, make_own},
    },
    identity::site::SiteId,
    link::Answered,
    recording::media,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::body::PublicBody;
use crate::{
    net::public_url::PublicUrl,
    routing::dispatch::{AnswerBody, RouteError, Routed},
    tunnel::registry::SiteCounters,
};

/// What a route expects in a successful response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// JSON from a search.
    Json,
    /// A recording.
    Audio,
}

impl Expected {
    fn allows(self, status: StatusCode, kind: Option<&str>) -> bool {
        let Some(kind) = kind else {
            // Only 304 has no content and therefore no type.
            return status == StatusCode::NOT_MODIFIED;
        };
        if status.is_client_error() || status.is_server_error() {
            return kind == PROBLEM_JSON;
        }
        match self {
            Self::Json => kind == "application/json",
            Self::Audio => kind.starts_with("audio/"),
        }
    }
}

/// The response of an agent, if it may be passed on.
pub(super) fn from_agent(
    routed: Result<Routed, RouteError>,
    expected: Expected,
    site: &SiteId,
) -> Result<Answered<AnswerBody>, HttpError> {
    let Routed { route, mut answered } = routed.map_err(|why| HttpError::from(why.problem()).at(site))?;
    let response = &mut answered.response;
    if !is_expected(expected, response.status(), response.headers()) {
        tracing::warn!(
            %site,
            from = route.name(),
            status = response.status().as_u16(),
            content_type = media_type(response.headers()).unwrap_or("none"),
            code = "response.not_passed_on",
            "an agent sent a response that is not passed on"
        );
        return Err(not_passed_on(site));
    }
    name_harmlessly(expected, response);
    Ok(answered)
}

/// Sets `Content-Disposition` and `Content-Type`. A browser stores a recording under the name in the response, and
/// opens it by name and type, so the relay itself sets both, from what the agent sends. A type that is not listed as
/// one of a recording becomes plain bytes: the browser stores them and never shows them.
fn name_harmlessly(expected: Expected, response: &mut Response<AnswerBody>) {
    let is_recording = expected == Expected::Audio && response.status().is_success();
    let headers = response.headers_mut();
    let stated = headers.remove(header::CONTENT_DISPOSITION);
    if !is_recording {
        return;
    }
    let kind = media_type(headers).unwrap_or_default().to_owned();
    let listed = media::listed(&kind);
    let (name, download) = stated.as_ref().map(read_disposition).unwrap_or_default();
    let disposition = content_disposition(&media::safe_name(&name, &kind), download || listed.is_none());
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(listed.unwrap_or(media::UNKNOWN)));
}

/// The error in place of a response that is not passed on.
fn not_passed_on(site: &SiteId) -> HttpError {
    let detail = "the site's agent sent a response that is not passed on; update the agent";
    HttpError::new(StatusCode::BAD_GATEWAY, detail).at(site)
}

/// Whether the content type of a response may be passed on with its status.
pub(super) fn is_expected(expected: Expected, status: StatusCode, headers: &HeaderMap) -> bool {
    expected.allows(status, media_type(headers))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or_default().trim())
}

/// Counts a result that the site's operators should look into: a server error, from the agent or the relay.
pub(super) fn count_error(status: StatusCode, counters: &SiteCounters) {
    counters.errors.fetch_add(u64::from(status.is_server_error()), Ordering::Relaxed);
}

/// The status that the client gets.
pub(super) fn status<B>(result: &Result<Response<B>, HttpError>) -> StatusCode {
    match result {
        Ok(response) => response.status(),
        Err(error) => error.status(),
    }
}

/// The response of an agent, with no address in it that leads away from its site.
///
/// # Errors
/// 502 if the response is longer than [`MAX_SEARCH_ANSWER_LEN`], is not JSON, or contains an address outside the site;
/// 503 if it was cut. An error that the agent itself sends is passed on: no browser shows its text as a page.
pub(super) async fn search_answer(
    answer: Response<AnswerBody>,
    site: &SiteId,
    public_url: &PublicUrl,
) -> Result<Response<PublicBody>, HttpError> {
    if !answer.status().is_success() {
        return Ok(answer.map(PublicBody::of_agent));
    }
    let (mut head, body) = answer.into_parts();
    let refuse = |why: &dyn std::fmt::Display| {
        tracing::warn!(
            %site,
            %why,
            code = "search.not_passed_on",
            "the response of an agent to a search is not passed on"
        );
        not_passed_on(site)
    };
    let body = Limited::new(body, MAX_SEARCH_ANSWER_LEN).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => refuse(&error),
        // Nothing was passed on yet, so the client only has to try again.
        false => HttpError::from(RouteError::Lost.problem()).at(site),
    });
    let body = body?.to_bytes();
    let mut value: Value = serde_json::from_slice(&body).map_err(|error| refuse(&error))?;
    let changed = make_own(&mut value, &public_url.site(site)).map_err(|error| refuse(&error))?;
    let body = if changed { Bytes::from(value.to_string()) } else { body };
    // The body may have another length now; the server sets the header again.
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, body.into()))
}
