//! The errors of the agent's HTTP service.

use std::time::Duration;

use audiovault_common::http_error::HttpError;
use http::StatusCode;

pub(crate) fn not_found() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, "no such page; searches go to /search")
}

/// A method that a route does not have, with the methods that it has.
pub(crate) fn method(allowed: &'static str) -> HttpError {
    HttpError::method_not_allowed(format!("this method is not allowed; use {allowed}"), allowed)
}

/// A token that is not checked because the client is throttled, with the time to wait (RFC 6585, section 4).
pub(crate) fn throttled(wait: Duration) -> HttpError {
    let detail = "too many wrong tokens from your address; correct the token, then try again";
    HttpError::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
}
