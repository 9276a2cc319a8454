//! The page for those who open the relay's address in a browser.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, header};

const PAGE: &str = concat!(
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
    "<title>AudioVault relay</title></head><body><main><h1>AudioVault relay ",
    env!("CARGO_PKG_VERSION"),
    "</h1><p>This server passes searches for call recordings on to the sites that keep them. ",
    "Its address belongs into the settings of QueueMetrics, not into a browser.</p></main></body></html>",
);

pub(super) async fn show() -> Response {
    let mut response = Html(PAGE).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
