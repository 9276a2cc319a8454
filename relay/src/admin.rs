//! The operators' listener: health for machines and the state of all sites.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};

use serde_json::json;

use crate::{
    board::{Board, SessionView},
    directory::DirectoryWatch,
    http::PublicState,
    metrics::{Metrics, OPENMETRICS},
};

/// What the admin routes work with.
#[derive(Debug)]
pub struct AdminState {
    /// The public side, whose state is shown.
    pub public: Arc<PublicState>,
    /// Tells whether the database answers.
    pub directory: Arc<DirectoryWatch>,
    /// What is seen of the sites.
    pub board: Board,
    /// Figures for Prometheus.
    pub metrics: Metrics,
}

/// The admin routes.
pub fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .with_state(state)
}

/// Ready means: send traffic here. A lost database does not stop connected sites from being served, so it is told
/// but does not make the relay unready.
async fn ready(State(state): State<Arc<AdminState>>) -> Response {
    if state.public.draining.load(std::sync::atomic::Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if state.directory.healthy() { "ready\n" } else { "ready, but the database does not answer\n" }
        .into_response()
}

async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    match state.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn status(State(state): State<Arc<AdminState>>) -> Json<serde_json::Value> {
    let picture = state.board.current();
    let sites = picture.rows.iter().map(|row| {
        let sessions = state.public.registry.sessions(&row.view.site);
        let sessions: Vec<_> = sessions.iter().map(|session| SessionView::of(session)).collect();
        let mut site = serde_json::to_value(&row.view).unwrap_or_default();
        site["sessions"] = json!(sessions);
        site
    });
    Json(json!({ "relay_version": env!("CARGO_PKG_VERSION"), "sites": sites.collect::<Vec<_>>() }))
}
