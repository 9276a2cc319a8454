//! The public side: searches, recordings, tunnels, enrolment, and a landing page; and what other relays ask for.

mod access_log;
mod answer;
pub mod cors;
mod delivery;
mod enrolment;
mod forwarded;
mod landing;
mod on_record;
mod recordings;
mod refusal;
mod request_body;
mod resume;
mod search;
mod search_answer;
mod site_host;
mod tunnel;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use audiovault_protocol::{
    about::ShownVersion, enrolment::ENROLMENT_PATH, recording_name::RecordedNames, site::SiteId,
};
use axum::{
    Router,
    extract::Request,
    middleware,
    response::Response,
    routing::{get, post},
};
use http::{Extensions, HeaderValue, StatusCode};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::forwarded::router as router_for_relays;
use self::{cors::AllowOrigin, refusal::Refusal, site_host::SiteHosts};
use crate::{
    audit::journal::Journal,
    limits::{ClientKey, Limits, SiteSlot},
    monitoring::metrics::HttpMetrics,
    net::{client::ClientAddress, host, public_url::PublicUrl},
    routing::router::Reach,
    sites::directory::{Directory, Refresher},
    store::Store,
    tunnel::registry::Registry,
};

/// Stands for an address that is not known.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What the public routes work with.
#[derive(Debug)]
pub struct PublicState {
    /// Where the public reaches this relay.
    pub public_url: PublicUrl,
    /// Proxies whose word about the client is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The value of `Strict-Transport-Security`, for answers over TLS.
    pub hsts: Option<HeaderValue>,
    /// Whether searches by GET are answered.
    pub search_by_get: bool,
    /// Connected agents.
    pub registry: Arc<Registry>,
    /// The way to them, and to those that are connected to other relays.
    pub reach: Reach,
    /// The sites; a running relay replaces the picture when the database has changed.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// Where enrolment codes are traded; nothing else on this side waits for the database.
    pub store: Store,
    /// Has the database read at once where the picture lacks something.
    pub refresher: Refresher,
    /// What one client, one site and all together may have.
    pub limits: Arc<Limits>,
    /// The tasks of all tunnels.
    pub tunnels: TaskTracker,
    /// Where searches, deliveries and tunnels are put on record.
    pub journal: Journal,
    /// How names of recordings stand on record, whatever agents tell.
    pub recorded_names: RecordedNames,
    /// What the landing page tells strangers.
    pub shown_version: ShownVersion,
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

    /// The site of that name or alias, if there is one.
    async fn find(&self, name: &str) -> Result<Option<SiteId>, Refusal> {
        if let Some(site) = self.directory().find(name) {
            return Ok(Some(site));
        }
        let read = self.refresher.refresh().await;
        let found = self.directory().find(name);
        if found.is_none() {
            read?;
        }
        Ok(found)
    }

    fn is_disabled(&self, site: &SiteId) -> bool {
        self.directory().site(site).is_none_or(|record| record.disabled.is_some())
    }

    /// A request's place at its site. Where other relays have all agents of it, a request has its place there, and none here.
    fn enter_site(&self, client: ClientKey, site: &SiteId) -> Result<Option<SiteSlot>, Refusal> {
        if self.reach.is_elsewhere(site) {
            return Ok(None);
        }
        let slot = self.limits.requests.enter_site(client, site);
        slot.map(Some).map_err(|busy| Refusal::from(busy).at(site))
    }
}

/// The public routes.
pub fn router(state: Arc<PublicState>, allow_origin: &AllowOrigin) -> Router {
    let searches = Router::new()
        .route("/search", get(search::by_parameter).post(search::by_parameter))
        .route("/search/", get(search::by_parameter).post(search::by_parameter))
        .route("/{site}/search", get(search::by_path).post(search::by_path))
        .route("/{site}/search/", get(search::by_path).post(search::by_path))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::map_response_with_state(Arc::clone(&state), search::allow));
    let for_everybody = Router::new()
        .route("/", get(landing::show))
        .route("/tunnel", get(tunnel::accept))
        .route("/{site}/recordings/{token}/{name}", get(recordings::deliver))
        .merge(searches)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(async |request: Request| {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this address")
                .into_response(request.extensions())
        })
        .layer(cors::layer(allow_origin));
    // No page of whatever site is to read a key that is handed out.
    let for_agents = Router::new()
        .route(ENROLMENT_PATH, post(enrolment::trade))
        .method_not_allowed_fallback(method_not_allowed);
    let routes = for_everybody.merge(for_agents).with_state(Arc::clone(&state));
    let path = state.public_url.as_url().path().trim_end_matches('/').to_owned();
    let routes = if path.is_empty() { routes } else { Router::new().nest(&path, routes) };
    let hosts = SiteHosts::new(&state.public_url, state.directory.clone());
    let routes = routes.layer(middleware::from_fn_with_state(state, access_log::record));
    // A router chooses the route before its own layers run, so the path is changed outside of it.
    let outside = middleware::from_fn_with_state(hosts, site_host::into_path);
    Router::new().fallback_service(routes).layer(outside).layer(middleware::from_fn(host::require))
}

async fn method_not_allowed(request: Request) -> Response {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method")
        .into_response(request.extensions())
}

/// Where a request comes from. The access log has found it out; without it nobody asks for anybody.
fn client_address(extensions: &Extensions) -> IpAddr {
    extensions.get::<ClientAddress>().map_or(NOBODY, |found| found.0)
}

/// Who asks, as limits know it.
fn client_key(extensions: &Extensions) -> ClientKey {
    client_address(extensions).into()
}

/// Turns a problem inside a handler into its answer.
fn answer(result: Result<Response, Refusal>, extensions: &Extensions) -> Response {
    result.unwrap_or_else(|refusal| refusal.into_response(extensions))
}
