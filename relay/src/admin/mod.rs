//! The operators' listener.
//!
//! It fails closed: everything is one protected tree behind the gate, its 404 included, beside a short list of what
//! answers without a login.

pub mod api;
mod audit;
pub mod auth;
mod compression;
pub mod entrance;
mod errors;
mod gate;
mod health;
pub mod pages;
mod record;
mod refused;
mod security_headers;
mod site_changes;
mod visible_site;

use std::sync::Arc;

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};

pub(crate) use self::{compression::Compressible, refused::known_name, site_changes::SiteChange};
pub use self::{
    gate::SignedIn, refused::Refused, security_headers::SecurityHeaders, visible_site::VisibleSite,
};
use crate::{
    admin::auth::Auth,
    monitoring::{board::Board, metrics::Metrics},
    public::PublicState,
    sites::directory::DirectoryWatch,
};

/// Octets of a request's body for somebody who is logged in: thousands of sites as CSV. Routes may allow less.
const MAX_BODY: usize = 1024 * 1024;
/// Octets of a body from anybody: a login.
const MAX_PUBLIC_BODY: usize = 16 * 1024;

/// What the admin routes work with.
#[derive(Debug)]
pub struct AdminState {
    /// The public side, whose state is shown.
    pub public: Arc<PublicState>,
    /// The sites, and whether the database answers.
    pub directory: Arc<DirectoryWatch>,
    /// What is seen of the sites.
    pub board: Board,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// Who may look; also the way to the database.
    pub auth: Auth,
    /// What every answer carries.
    pub headers: SecurityHeaders,
    /// Whether the figures are for anybody who asks.
    pub metrics_public: bool,
}

/// The admin routes.
pub fn router(state: Arc<AdminState>) -> Router {
    let health = Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready));
    let public = pages::public_routes()
        .layer(middleware::from_fn(gate::own_pages_only))
        .layer(DefaultBodyLimit::max(MAX_PUBLIC_BODY));
    let metrics = Router::new().route("/metrics", get(health::metrics));
    let mut protected = pages::routes().merge(api::routes()).fallback(async || Refused::not_found());
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
