//! Error responses: one sentence for the client, the cause for the log.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

/// A request that cannot be served. [`super::frame`] turns it into a problem document.
#[derive(Debug, Clone)]
pub(crate) struct HttpError {
    pub(crate) status: StatusCode,
    pub(crate) detail: Box<str>,
    pub(crate) cause: Option<Box<str>>,
    pub(crate) header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl HttpError {
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and sentences alike")]
    pub(crate) fn new(status: StatusCode, detail: impl ToString) -> Self {
        Self { status, detail: detail.to_string().into(), cause: None, header: None }
    }

    /// Adds the cause, which is written to the log alone.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and sentences alike")]
    pub(crate) fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string().into());
        self
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such page; searches go to /search")
    }

    /// A method that a route does not have (RFC 9110, section 15.5.6).
    pub(crate) fn method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this method is not allowed; use {allowed}"))
            .with(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// A token that is missing or wrong. Such a response must name an authentication scheme (RFC 9110, section 15.5.2).
    pub(crate) fn denied(detail: impl ToString) -> Self {
        let challenge = HeaderValue::from_static("SearchToken realm=\"audiovault\"");
        Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// A token that is not checked because the client is throttled, with the time to wait (RFC 6585, section 4).
    pub(crate) fn throttled(wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let detail = "too many wrong tokens from your address; correct the token, then try again";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .with(header::RETRY_AFTER, u32::try_from(seconds).unwrap_or(u32::MAX).into())
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
