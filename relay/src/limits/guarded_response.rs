//! A response that keeps a guard until its body has ended or was dropped.

use audiovault_protocol::admission::connection::HeldBody;
use axum::{body::Body, response::Response};

/// Keeps `guard` until the body of the response is dropped.
pub(crate) fn hold<G: Send + Unpin + 'static>(response: Response, guard: G) -> Response {
    response.map(|body| Body::new(HeldBody::new(body, guard)))
}
