//! From the agent's answer to the public one: what a hostile agent might say must not reach a browser.

use std::sync::atomic::Ordering;

use audiovault_protocol::{
    link::{CallError, TunnelBody},
    mux::OpenError,
    problem::{PROBLEM_JSON, Problem},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Refusal, access_log::LoggedSite};
use crate::{registry::SiteCounters, session::Session};

/// What a route expects in a successful answer.
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
            // Only 304 has no content and so no type.
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

/// Headers that every recording's answer carries, whatever the agent says: recordings stay with who asked.
const PRIVACY: [(header::HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "private, no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::HeaderName::from_static("x-robots-tag"), "noindex"),
    (header::CONTENT_SECURITY_POLICY, "sandbox"),
];

/// Sets the privacy headers.
pub(super) fn make_private(headers: &mut HeaderMap) {
    for (name, value) in PRIVACY {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The answer to a call, if it is one that may be passed on.
pub(super) fn from_call(
    called: Result<http::Response<TunnelBody>, CallError>,
    expected: Expected,
    session: &Session,
) -> Result<http::Response<TunnelBody>, Refusal> {
    let mut response = called.map_err(|error| refuse(&error, session))?;
    if !is_expected(expected, response.status(), response.headers()) {
        tracing::warn!(
            site = %session.site,
            session = session.id,
            status = response.status().as_u16(),
            content_type = media_type(response.headers()).unwrap_or("none"),
            "an agent answered with content that is not passed on"
        );
        let detail = "the site's agent answered with something that is not passed on; update the agent";
        return Err(Refusal::new(StatusCode::BAD_GATEWAY, detail).at(&session.site));
    }
    response.extensions_mut().insert(LoggedSite(session.site.clone()));
    Ok(response)
}

/// Whether an answer has a type of content that may be passed on with its status.
pub(super) fn is_expected(expected: Expected, status: StatusCode, headers: &HeaderMap) -> bool {
    expected.allows(status, media_type(headers))
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or_default().trim())
}

/// Counts an outcome that the site's operators should look into: a server error, whoever made it.
pub(super) fn count_errors<B>(result: &Result<http::Response<B>, Refusal>, counters: &SiteCounters) {
    let failed = match result {
        Ok(response) => response.status().is_server_error(),
        Err(refusal) => refusal.status().is_server_error(),
    };
    counters.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
}

fn refuse(error: &CallError, session: &Session) -> Refusal {
    tracing::info!(site = %session.site, session = session.id, %error, "a request has no answer");
    let problem = match error {
        CallError::Deadline => {
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "the site's agent did not answer in time; try again")
        }
        CallError::TooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too large; send the fields of a search only",
        ),
        CallError::NotOpened(OpenError::TooManyStreams | OpenError::NoBudget) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the site is busy; try again in a moment")
                .retry_after(2)
        }
        CallError::NotOpened(OpenError::Closed) | CallError::Refused | CallError::Lost => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the site's connection is being renewed; try again")
                .retry_after(2)
        }
        CallError::Reset(..) | CallError::Malformed => {
            Problem::new(StatusCode::BAD_GATEWAY, "the site's agent failed to answer; see its log")
        }
    };
    Refusal::from(problem).at(&session.site)
}
