//! A response that keeps something until its body has ended or was given up.

use audiovault_protocol::connection::HeldBody;
use axum::{body::Body, response::Response};

/// Lets a response keep `guard` until its body is gone.
pub(crate) fn hold<G: Send + Unpin + 'static>(response: Response, guard: G) -> Response {
    response.map(|body| Body::new(HeldBody::new(body, guard)))
}
