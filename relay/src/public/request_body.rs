//! Reads the whole body of a short request.

use std::time::Duration;

use axum::body::{self, Body};
use bytes::Bytes;
use http::StatusCode;
use http_body::Body as _;
use tokio::time::timeout;

use super::HttpError;

/// How long a client may take to send a body, which has a few hundred bytes and at most 64 KiB: 50 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body, if it has at most `limit` bytes; otherwise an error with the text `too_large`. If the announced length is
/// over the limit, the body is not read: a client that waits for 100 (RFC 9110, section 10.1.1) gets its response at
/// once.
pub(super) async fn read(body: Body, limit: usize, too_large: &str) -> Result<Bytes, HttpError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, too_large));
    }
    let read = timeout(BODY_TIMEOUT, body::to_bytes(body, limit)).await;
    let read = read.map_err(|_| {
        HttpError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request body did not arrive in time; send it without delay",
        )
    })?;
    read.map_err(|error| {
        let detail = error.to_string();
        let limited = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        if limited {
            HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, too_large)
        } else {
            tracing::debug!(detail, "a request body is incomplete");
            HttpError::new(StatusCode::BAD_REQUEST, "the request body is incomplete")
        }
    })
}
