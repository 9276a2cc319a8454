//! Lets players on other pages read recordings and search responses (the Fetch standard's CORS protocol).

use std::{
    convert::Infallible,
    future::{Ready, ready},
    time::Duration,
};

use audiovault_common::request_id::X_REQUEST_ID;
use http::{HeaderValue, Method, Request, Response, header, request::Parts};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::CorsLayer;

use super::body::PublicBody;

/// How long a browser may remember the response to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Origins (RFC 6454) whose pages may read what the relay serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowOrigin {
    /// Any origin: a signed link is itself the permission.
    Any,
    /// These origins, as browsers send them in `Origin`.
    List(Vec<HeaderValue>),
}

/// Says in responses which pages may read them.
#[derive(Debug, Clone)]
pub(super) struct Cors(CorsLayer);

impl Cors {
    pub(super) fn new(allow_origin: &AllowOrigin) -> Self {
        let cors = CorsLayer::new()
            .allow_methods([Method::GET, Method::HEAD, Method::POST])
            .allow_headers([
                header::CONTENT_TYPE,
                header::RANGE,
                header::IF_MATCH,
                header::IF_MODIFIED_SINCE,
                header::IF_NONE_MATCH,
                header::IF_RANGE,
                header::IF_UNMODIFIED_SINCE,
            ])
            .expose_headers([
                header::ACCEPT_RANGES,
                header::CONTENT_DISPOSITION,
                header::CONTENT_LENGTH,
                header::CONTENT_RANGE,
                header::ETAG,
                header::LAST_MODIFIED,
                header::RETRY_AFTER,
                X_REQUEST_ID,
            ])
            .max_age(PREFLIGHT_AGE);
        Self(match allow_origin {
            AllowOrigin::Any => cors.allow_origin(tower_http::cors::Any),
            AllowOrigin::List(origins) => cors.allow_origin(origins.clone()),
        })
    }

    /// Adds the headers for the page that made the request. A preflight gets a response of its own instead.
    pub(super) async fn share(&self, parts: &Parts, response: Response<PublicBody>) -> Response<PublicBody> {
        // The layer asks its service once, for the response that exists already.
        let mut response = Some(response);
        let answered = move |_: Request<()>| -> Ready<Result<Response<PublicBody>, Infallible>> {
            ready(Ok(response.take().unwrap_or_default()))
        };
        let mut request = Request::new(());
        *request.method_mut() = parts.method.clone();
        for name in
            [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS]
        {
            if let Some(value) = parts.headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        match self.0.layer(service_fn(answered)).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
