//! The operators' listener.
//!
//! It fails closed: everything, including its 404, is one tree of routes behind the login check. Only a short list of
//! routes works without a login.

pub mod api;
mod audit;
pub mod auth;
mod compression;
pub mod entrance;
pub(crate) mod errors;
mod gate;
mod health;
pub mod pages;
mod record;
mod site_changes;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};

pub(crate) use self::{compression::Compressible, errors::known_name, site_changes::SiteChange};
pub use self::{
    gate::{SignedIn, VisibleSite},
    record::SecurityHeaders,
};
use crate::{
    admin::auth::Auth,
    monitoring::{board::Board, metrics::Metrics},
    public::PublicState,
    sites::directory::DirectoryWatch,
};

/// Longest body of a request after the login, in bytes: thousands of sites as CSV. A route may allow less.
const MAX_BODY: usize = 1024 * 1024;
/// Longest body of a request without a login, in bytes: a login form is small.
const MAX_PUBLIC_BODY: usize = 16 * 1024;

/// What the admin routes use.
#[derive(Debug)]
pub struct AdminState {
    /// The public side, whose state is shown.
    pub public: Arc<PublicState>,
    /// The sites, and whether the database answers.
    pub directory: Arc<DirectoryWatch>,
    /// The board's snapshots of the sites.
    pub board: Board,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// Authentication. It also gives access to the database.
    pub auth: Auth,
    /// The security headers of every response.
    pub headers: SecurityHeaders,
    /// Whether the metrics can be read without a login.
    pub metrics_public: bool,
}

/// All routes of the admin listener.
pub fn router(state: Arc<AdminState>) -> Router {
    let health = Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready));
    let public = pages::public_routes()
        .layer(middleware::from_fn(gate::own_pages_only))
        .layer(DefaultBodyLimit::max(MAX_PUBLIC_BODY));
    let metrics = Router::new().route("/metrics", get(health::metrics));
    let mut protected = pages::routes().merge(api::routes()).fallback(async || errors::not_found());
    let mut open = public;
    if state.metrics_public {
        open = open.merge(metrics);
    } else {
        protected = protected.merge(metrics);
    }
    let protected = protected
        .layer(middleware::from_fn(compression::mark))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), gate::guard))
        .layer(DefaultBodyLimit::max(MAX_BODY));
    let pages = open
        .merge(protected)
        .layer(middleware::from_fn(pages::preferences))
        .layer(middleware::from_fn(errors::present))
        .layer(compression::layer());
    Router::new()
        .merge(health)
        .merge(pages)
        .layer(middleware::from_fn_with_state(Arc::clone(&state), record::record))
        .with_state(state)
}
