//! Lets players on other pages read recordings and search responses (the Fetch standard's CORS protocol).

use std::time::Duration;

use http::{HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use crate::model::X_REQUEST_ID;

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

pub(super) fn layer(allow_origin: &AllowOrigin) -> CorsLayer {
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
    match allow_origin {
        AllowOrigin::Any => cors.allow_origin(tower_http::cors::Any),
        AllowOrigin::List(origins) => cors.allow_origin(origins.clone()),
    }
}
