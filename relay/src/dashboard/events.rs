//! `/events`: what has changed on the board, as server-sent events.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Query, State},
    response::{IntoResponse, Response, Sse, sse::KeepAlive},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::{
    admin::{AdminState, SignedIn},
    board::live,
};

/// Proxies end connections that are silent for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What the address says.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    /// The number of the picture that the page shows.
    seen: Option<u64>,
}

/// What has changed since the page was made, and from now on.
pub(crate) async fn stream(
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
