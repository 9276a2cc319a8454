//! What has changed on the board, as server-sent events.

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

/// Proxies end connections that are silent for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the asker knows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Seen {
    /// The number of the picture from which to go on; without it, from now on.
    seen: Option<u64>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// What changes on the board, as server-sent events with the changed fields of each site; ask again after a minute
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
    // What a browser that comes again has heard last counts more than what its page was made with.
    let heard = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let principal = who.principal;
    let changes = live::watch(&state.board, Arc::new(move |site| principal.may_see(site)), heard.or(seen));
    let mut response = Sse::new(changes).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would gather events otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
