//! The public side: searches, recordings, tunnels, enrolment, a landing page, and the requests of peer relays.

mod access_log;
mod answer;
mod audit_events;
mod enrolment;
mod errors;
mod forwarded;
mod recordings;
mod resume;
mod search;
mod site_host;
mod tunnel;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use audiovault_common::about::{Purpose, ShownVersion};
use audiovault_common::http_error::HttpError;
use audiovault_common::request_id::X_REQUEST_ID;
use audiovault_protocol::{
    identity::{enrolment::ENROLMENT_PATH, site::SiteId},
    recording::name::RecordedNames,
};
use axum::{
    Router,
    body::Body,
    extract::State,
    middleware,
    response::Response,
    routing::{get, post},
};
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tower_http::cors::CorsLayer;

pub use self::forwarded::router as router_for_relays;
use self::site_host::SiteHosts;
use crate::{
    audit::journal::Journal,
    limits::{ClientKey, Limits, SitePermit},
    model::ABOUT,
    monitoring::metrics::HttpMetrics,
    net::{client::ClientAddress, host, public_url::PublicUrl},
    routing::router::AgentRouter,
    sites::directory::{Directory, Refresher},
    store::Store,
    tunnel::registry::Registry,
};

/// Used if the client's address is not known.
const UNKNOWN_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What the public routes need.
#[derive(Debug)]
pub struct PublicState {
    /// The address under which clients reach this relay.
    pub public_url: PublicUrl,
    /// Proxies that the relay trusts to name the client's address.
    pub trusted_proxies: Vec<IpNet>,
    /// The value of `Strict-Transport-Security`, for responses over TLS.
    pub hsts: Option<HeaderValue>,
    /// Whether searches by GET are allowed.
    pub search_by_get: bool,
    /// Connected agents.
    pub registry: Arc<Registry>,
    /// Finds routes to these agents and to those connected to peer relays.
    pub agents: AgentRouter,
    /// The sites. A running relay replaces the value when the database has changed.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The database, where enrolment codes are traded; nothing else on this side waits for it.
    pub store: Store,
    /// Makes the relay read the sites from the database at once if `directory` lacks something.
    pub refresher: Refresher,
    /// The limits of each client, of each site and of all together.
    pub limits: Arc<Limits>,
    /// The tasks of all tunnels.
    pub tunnels: TaskTracker,
    /// Writes searches, deliveries and tunnels to the database.
    pub journal: Journal,
    /// How names of recordings are written to the audit log, no matter what agents send.
    pub recorded_names: RecordedNames,
    /// Which version the landing page shows to unauthenticated clients.
    pub shown_version: ShownVersion,
    /// Counts requests and measures response times.
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

    /// The site with this name or alias, if there is one.
    async fn find(&self, name: &str) -> Result<Option<SiteId>, HttpError> {
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

    /// A permit for a request at its site. If all agents of the site are connected to peer relays, the request gets
    /// its permit there and none here.
    fn enter_site(&self, client: ClientKey, site: &SiteId) -> Result<Option<SitePermit>, HttpError> {
        if self.agents.is_elsewhere(site) {
            return Ok(None);
        }
        let permit = self.limits.requests.enter_site(client, site);
        permit.map(Some).map_err(|busy| HttpError::from(busy).at(site))
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
    let for_clients = Router::new()
        .route("/", get(landing_page))
        .route("/tunnel", get(tunnel::accept))
        .route("/{site}/recordings/{token}/{name}", get(recordings::deliver))
        .merge(searches)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(async || HttpError::new(StatusCode::NOT_FOUND, "there is nothing at this address"))
        .layer(cors_layer(allow_origin));
    // Without CORS: no web page may read a site key that is handed out.
    let for_agents = Router::new()
        .route(ENROLMENT_PATH, post(enrolment::trade))
        .method_not_allowed_fallback(method_not_allowed);
    let routes = for_clients.merge(for_agents).with_state(Arc::clone(&state));
    let path = state.public_url.as_url().path().trim_end_matches('/').to_owned();
    let routes = if path.is_empty() { routes } else { Router::new().nest(&path, routes) };
    let hosts = SiteHosts::new(&state.public_url, state.directory.clone());
    let routes = routes.layer(middleware::from_fn_with_state(state, access_log::record));
    // A router chooses the route before its own layers run, so the path is changed outside of it.
    let outside = middleware::from_fn_with_state(hosts, site_host::into_path);
    Router::new().fallback_service(routes).layer(outside).layer(middleware::from_fn(host::require))
}

async fn method_not_allowed() -> HttpError {
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not accept that method")
}

/// The client's address, as the access log determined it; `UNKNOWN_CLIENT` if it did not.
fn client_address(extensions: &Extensions) -> IpAddr {
    extensions.get::<ClientAddress>().map_or(UNKNOWN_CLIENT, |found| found.0)
}

/// The client, as the key for limits.
fn client_key(extensions: &Extensions) -> ClientKey {
    client_address(extensions).into()
}

/// How long a browser may remember the response to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Origins (RFC 6454) whose pages may read what the relay serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowOrigin {
    /// Any origin: a signed link is itself the permission.
    Any,
    /// These origins, as browsers send them in `Origin`.
    List(Vec<HeaderValue>),
}

/// Lets players on other pages read recordings and search responses (the Fetch standard's CORS protocol).
fn cors_layer(allow_origin: &AllowOrigin) -> CorsLayer {
    let cors = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([
            header::CONTENT_TYPE,
            header::RANGE,
            header::IF_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_NONE_MATCH,
            header::IF_RANGE,
            header::IF_UNMODIFIED_SINCE,
        ])
        .expose_headers([
            header::ACCEPT_RANGES,
            header::CONTENT_DISPOSITION,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::ETAG,
            header::LAST_MODIFIED,
            header::RETRY_AFTER,
            X_REQUEST_ID,
        ])
        .max_age(PREFLIGHT_AGE);
    match allow_origin {
        AllowOrigin::Any => cors.allow_origin(tower_http::cors::Any),
        AllowOrigin::List(origins) => cors.allow_origin(origins.clone()),
    }
}

/// The page for people who open the relay's address in a browser.
async fn landing_page(State(state): State<Arc<PublicState>>, asked: HeaderMap) -> Response {
    ABOUT.landing(Purpose::Relay, state.shown_version, &asked).map(Body::from)
}
