//! Errors of HTTP services: what the client learns, and what only the log learns.
//!
//! A handler returns an [`HttpError`]. The outermost function of the service, which knows the id of the request and writes
//! the log, turns it into a problem document (RFC 9457). A handler of axum returns a bare response that carries the
//! error; the outermost layer makes a document or a page of it.

use std::{borrow::Cow, time::Duration};

use audiovault_protocol::{http::problem::Problem, identity::site::SiteId};
use axum::response::{IntoResponse, Response as AxumResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// A request that cannot be answered.
#[derive(Debug, Clone)]
pub struct HttpError {
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    headers: Option<Box<HeaderMap>>,
    log_cause: Option<Box<str>>,
    site: Option<SiteId>,
}

impl HttpError {
    /// An error with one sentence for the client: who is to blame and what to do.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), retry_after: None, headers: None, log_cause: None, site: None }
    }

    /// A method that a route does not have (RFC 9110, section 15.5.6), with the methods that it has.
    pub fn method_not_allowed(detail: impl Into<Cow<'static, str>>, allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
            .with(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// A search token that is missing or wrong. Such a response names an authentication scheme (RFC 9110, section
    /// 15.5.2), which is the same at agents and relays.
    pub fn wrong_token(detail: impl Into<Cow<'static, str>>) -> Self {
        let challenge = HeaderValue::from_static("SearchToken realm=\"audiovault\"");
        Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// Sets after how long a retry is useful. The client gets whole seconds, at least one.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Sets a header of the response.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().insert(name, value);
        self
    }

    /// Adds the cause, which is written to the log alone.
    #[must_use]
    pub fn because(self, cause: impl Into<Box<str>>) -> Self {
        Self { log_cause: Some(cause.into()), ..self }
    }

    /// Sets the site that the request was for, for the log.
    #[must_use]
    pub fn at(self, site: &SiteId) -> Self {
        Self { site: Some(site.clone()), ..self }
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The cause for the log.
    pub fn log_cause(&self) -> Option<&str> {
        self.log_cause.as_deref()
    }

    /// The site that the request was for, if known.
    pub fn site(&self) -> Option<&SiteId> {
        self.site.as_ref()
    }

    /// The response: a problem document with the id of the request.
    pub fn into_document<B: From<Bytes>>(self, request_id: &str) -> Response<B> {
        let problem = Problem::new(self.status, self.detail).for_request(request_id);
        let mut response = problem.into_response();
        put_headers(response.headers_mut(), self.retry_after, self.headers.as_deref());
        response.map(B::from)
    }
}

impl From<Problem> for HttpError {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = problem.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
        Self { retry_after: wait, ..Self::new(status, problem.detail) }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> AxumResponse {
        let mut response = self.status.into_response();
        put_headers(response.headers_mut(), self.retry_after, self.headers.as_deref());
        response.extensions_mut().insert(self);
        response
    }
}

fn put_headers(headers: &mut HeaderMap, retry_after: Option<Duration>, more: Option<&HeaderMap>) {
    if let Some(wait) = retry_after {
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    for (name, value) in more.into_iter().flatten() {
        headers.insert(name, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_a_document_with_its_headers_and_without_its_cause() {
        let error = HttpError::wrong_token("the token is wrong")
            .retry_after(Duration::from_millis(1200))
            .because("found in the log alone");
        assert_eq!(error.log_cause(), Some("found in the log alone"));
        let response: Response<Bytes> = error.into_document("r1");
        assert_eq!(response.status(), 401);
        let headers = response.headers();
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert!(headers["www-authenticate"].to_str().unwrap().starts_with("SearchToken"));
        assert!(!headers.contains_key(header::CONTENT_LENGTH));
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(body.contains("r1") && !body.contains("log alone"), "{body}");
    }
}
