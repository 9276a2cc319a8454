//! The public side: searches, recordings, tunnels, and a landing page.

mod access_log;
mod answer;
mod cors;
mod delivery;
mod landing;
mod on_record;
mod recordings;
mod search;
mod tunnel;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use audiovault_protocol::{context::RequestId, problem::Problem, site::SiteId};
use axum::{Router, body::Body, middleware, response::Response, routing::get};
use http::{Extensions, StatusCode};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::access_log::LoggedSite;
use crate::{
    config::{AllowOrigin, PublicUrl},
    directory::{Directory, Refresher},
    journal::Journal,
    metrics::HttpMetrics,
    registry::Registry,
};

/// What the public routes work with.
#[derive(Debug)]
pub struct PublicState {
    /// Where the public reaches this relay.
    pub public_url: PublicUrl,
    /// Proxies whose word about the client is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Connected agents.
    pub registry: Arc<Registry>,
    /// The sites; a running relay replaces the picture when the database has changed.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Has the database read at once where the picture lacks something.
    pub refresher: Refresher,
    /// The tasks of all tunnels.
    pub tunnels: TaskTracker,
    /// Where searches, deliveries and tunnels are put on record.
    pub journal: Journal,
    /// Counts requests and times answers.
    pub metrics: HttpMetrics,
    /// Set once the relay is shutting down.
    pub draining: AtomicBool,
}

impl PublicState {
    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.borrow())
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The enabled site of that name or alias.
    async fn site(&self, name: &str) -> Result<SiteId, Refusal> {
        if self.directory().find(name).is_none() {
            self.refresher.refresh().await;
        }
        let directory = self.directory();
        let site = directory.find(name).ok_or_else(Refusal::unknown_site)?;
        if directory.site(&site).is_none_or(|record| record.disabled.is_some()) {
            return Err(Refusal::disabled().at(&site));
        }
        Ok(site)
    }
}

/// An error for the public, before its request has got its id.
#[derive(Debug)]
struct Refusal {
    problem: Problem,
    /// For the log.
    site: Option<SiteId>,
}

impl Refusal {
    fn new(status: StatusCode, detail: &str) -> Self {
        Problem::new(status, detail).into()
    }

    fn unknown_site() -> Self {
        Self::new(StatusCode::NOT_FOUND, "this relay has no such site; check the address in QueueMetrics")
    }

    fn disabled() -> Self {
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this site is disabled by the relay's operator");
        problem.retry_after(300).into()
    }

    fn offline() -> Self {
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the site is not connected; check its agent, then try again",
        );
        problem.retry_after(10).into()
    }

    /// Names the site that the request was for.
    fn at(self, site: &SiteId) -> Self {
        Self { site: Some(site.clone()), ..self }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn into_response(self, extensions: &Extensions) -> Response {
        let id = extensions.get::<RequestId>().map_or("", |id| id.0.as_str());
        let mut response = self.problem.for_request(id).into_response().map(Body::from);
        if let Some(site) = self.site {
            response.extensions_mut().insert(LoggedSite(site));
        }
        response
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, site: None }
    }
}

/// The public routes.
pub fn router(state: Arc<PublicState>, allow_origin: &AllowOrigin) -> Router {
    let recording = get(recordings::deliver);
    let routes = Router::new()
        .route("/", get(landing::show))
        .route("/tunnel", get(tunnel::accept))
        .route("/search", get(search::by_parameter).post(search::by_parameter))
        .route("/search/", get(search::by_parameter).post(search::by_parameter))
        .route("/{site}/search", get(search::by_path).post(search::by_path))
        .route("/{site}/search/", get(search::by_path).post(search::by_path))
        .route("/{site}/recordings/{token}/{name}", recording)
        .method_not_allowed_fallback(async |request: axum::extract::Request| {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method")
                .into_response(request.extensions())
        })
        .fallback(async |request: axum::extract::Request| {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this address")
                .into_response(request.extensions())
        })
        .with_state(Arc::clone(&state));
    let path = state.public_url.as_url().path().trim_end_matches('/').to_owned();
    let routes = if path.is_empty() { routes } else { Router::new().nest(&path, routes) };
    routes.layer(cors::layer(allow_origin)).layer(middleware::from_fn_with_state(state, access_log::record))
}

/// Turns a problem inside a handler into its answer.
fn answer(result: Result<Response, Refusal>, extensions: &Extensions) -> Response {
    result.unwrap_or_else(|refusal| refusal.into_response(extensions))
}
