//! Changes of the board, as server-sent events.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Failures;
use crate::{
    admin::{AdminState, SignedIn},
    monitoring::board::live,
};

/// Interval of the keep-alive comments. Proxies close a connection that sends no data for 30 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the client already has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Seen {
    /// Number of the snapshot that the client has; the stream continues from there. Without it, the stream starts from
    /// the current snapshot.
    seen: Option<u64>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// Stream the board's changes as server-sent events, with each site's changed fields; it ends after a minute
#[utoipa::path(
    get, path = "/events", tag = "sites",
    responses((status = 200, content_type = "text/event-stream", body = String), Failures)
)]
async fn watch(
    Extension(who): Extension<SignedIn>,
    State(state): State<Arc<AdminState>>,
    Query(Seen { seen }): Query<Seen>,
    headers: HeaderMap,
) -> Response {
    // A browser that reconnects sends the last id that it received. It is newer than the number in its page's address.
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let principal = who.principal;
    let changes = live::watch(&state.board, Arc::new(move |site| principal.may_see(site)), last.or(seen));
    let mut response = Sse::new(changes).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Without this header nginx buffers the events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
