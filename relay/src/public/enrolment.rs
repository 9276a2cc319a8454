//! Enrolment: trades a code for a site key, before the agent has ever connected.

use std::time::{Duration, Instant};

use audiovault_common::http_error::HttpError;
use audiovault_common::request_body::read_body;
use audiovault_protocol::identity::{
    enrolment::{EnrolmentAnswer, EnrolmentRequest, MAX_ENROLMENT_REQUEST_LEN},
    site::SiteKey,
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{PublicState, context::RequestContext, entrance::Answer};
use crate::{
    limits::{Guess, Subject},
    sites::provisioning,
    store::StoreError,
};

/// When to retry while the database does not answer.
const DATABASE_RETRY: Duration = Duration::from_secs(5);
/// How long an enrolment waits while others from the same address are running: the database answers each within a
/// second.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// `POST /enroll`.
pub(super) async fn trade(
    state: &PublicState,
    context: &RequestContext,
    body: Incoming,
) -> Result<Answer, HttpError> {
    let address = context.address;
    let too_large = "an enrolment can have at most 512 bytes";
    let body = read_body(body, MAX_ENROLMENT_REQUEST_LEN, too_large).await?;
    let request: EnrolmentRequest = serde_json::from_slice(&body).map_err(|error| malformed(&error))?;
    let until = tokio::time::Instant::now() + PLACE_TIMEOUT;
    let trial = state.limits.throttle.try_token(Subject::code(address.into()), Guess::Unknown, until).await?;
    match provisioning::trade_code(&state.store, &request.code, address).await {
        Ok(key) => {
            // The agent connects at once, so its key must be known by then.
            let _ = state.refresher.refresh().await;
            tracing::info!(
                site = %key.site(),
                client = %address,
                key = key.digest().short(),
                code = "enrolment.accepted",
                "a site key was handed out by enrolment"
            );
            hand_out(key)
        }
        Err(error) => {
            if matches!(error, StoreError::CodeRefused) {
                trial.wrong(Instant::now());
                tracing::warn!(
                    client = %address,
                    code = "enrolment.refused",
                    "an enrolment without a valid code was refused"
                );
            }
            Err(refuse(&error))
        }
    }
}

/// Reports what is wrong, but not the position in a body that people have not written themselves.
fn malformed(error: &serde_json::Error) -> HttpError {
    let error = error.to_string();
    let what = error.split(" at line ").next().unwrap_or_default();
    HttpError::new(StatusCode::BAD_REQUEST, format!("send {{\"code\": \"XXXX-XXXX-XXXX\"}}: {what}"))
}

fn hand_out(site_key: SiteKey) -> Result<Answer, HttpError> {
    let site = site_key.site().clone();
    let answer = serde_json::to_vec(&EnrolmentAnswer { site: site.clone(), site_key })
        .map_err(|error| HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let mut response = Response::new(Bytes::from(answer).into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(Answer { response, site: Some(site) })
}

fn refuse(error: &StoreError) -> HttpError {
    if matches!(error, StoreError::CodeRefused) {
        return HttpError::new(StatusCode::FORBIDDEN, error.to_string());
    }
    if let StoreError::NoRoomForKey(site) = error {
        let detail = format!(
            "the site {site} has two valid keys already; ask the relay's operator to revoke one, then use this code again"
        );
        return HttpError::new(StatusCode::CONFLICT, detail).at(site);
    }
    tracing::error!(%error, cause = error.cause(), code = "enrolment.failed", "an enrolment failed");
    let detail = "the relay's database does not answer; try again in a moment, with the same code";
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(DATABASE_RETRY)
}
