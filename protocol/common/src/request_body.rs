//! Reads short request bodies whole.

use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use crate::{error_chain::in_one_line, http_error::HttpError};

/// How long a client may take to send a body, which has a few hundred bytes and at most 64 KiB: 50 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body, if it has at most `limit` bytes. If the announced length is over the limit, the body is not read: a client
/// that waits for 100 (RFC 9110, section 10.1.1) gets its response at once.
///
/// # Errors
/// 413 with the text `too_large`, 408 if the body does not arrive within ten seconds, 400 if it is incomplete.
pub async fn read_body<B>(body: B, limit: usize, too_large: &'static str) -> Result<Bytes, HttpError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, too_large));
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await.map_err(|_| {
        let detail = "the request body did not arrive in time; send it without delay";
        HttpError::new(StatusCode::REQUEST_TIMEOUT, detail)
    })?;
    match read {
        Ok(read) => Ok(read.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, too_large))
        }
        Err(error) => Err(HttpError::new(StatusCode::BAD_REQUEST, "the request body is incomplete")
            .because(in_one_line(&*error))),
    }
}
