//! The response to a search, read whole before it is passed on: clients follow its links because they are the relay's.

use audiovault_protocol::{
    http::search_answer::{MAX_SEARCH_ANSWER_LEN, make_own},
    identity::site::SiteId,
};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use super::{HttpError, answer::not_passed_on};
use crate::{
    net::public_url::PublicUrl,
    routing::{answer_body::AnswerBody, dispatch::RouteError},
};

/// The response of an agent, with no address in it that leads away from its site.
///
/// # Errors
/// 502 if the response is longer than [`MAX_SEARCH_ANSWER_LEN`], is not JSON, or contains an address outside the site;
/// 503 if it was cut. An error that the agent itself sends is passed on: no browser shows its text as a page.
pub(super) async fn own(
    answer: http::Response<AnswerBody>,
    site: &SiteId,
    public_url: &PublicUrl,
) -> Result<Response, HttpError> {
    if !answer.status().is_success() {
        return Ok(answer.map(Body::new));
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
    Ok(Response::from_parts(head, Body::from(body)))
}
