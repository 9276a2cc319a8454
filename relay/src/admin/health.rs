//! Health endpoints and metrics.

use std::sync::{Arc, atomic::Ordering};

use audiovault_common::http_error::HttpError;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{AdminState, Compressible, SignedIn, errors};
use crate::{model::account::Scope, monitoring::metrics::Format};

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Ready means that traffic can be sent here. Connected sites are still served while the database is lost, so a lost
/// database is reported in the text but does not make the relay unready.
pub(super) async fn ready(State(state): State<Arc<AdminState>>) -> Response {
    if state.public.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if state.directory.healthy() { "ready\n" } else { "ready, but the database does not answer\n" }
        .into_response()
}

/// The metrics name every site, so only a principal that may see all sites gets them, unless the operator has made
/// them public.
pub(super) async fn metrics(
    State(state): State<Arc<AdminState>>,
    signed_in: Option<Extension<SignedIn>>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let everywhere = signed_in.is_some_and(|signed_in| signed_in.principal.rights.scope == Scope::All);
    if !everywhere && !state.metrics_public {
        return Err(errors::not_found());
    }
    let format = Format::accepted(&headers);
    match state.metrics.render(format) {
        Ok(text) => {
            let mut response = ([(header::CONTENT_TYPE, format.content_type())], text).into_response();
            response.extensions_mut().insert(Compressible);
            response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
            Ok(response)
        }
        Err(error) => {
            tracing::error!(%error, code = "metrics.failed", "cannot render the metrics");
            Err(errors::internal())
        }
    }
}
