//! The public side: searches, recordings, tunnels, enrolment, a landing page, and the requests of peer relays.

mod answer;
mod audit_events;
mod body;
mod context;
mod cors;
mod enrolment;
mod entrance;
mod errors;
mod forwarded;
mod paths;
mod recordings;
mod resume;
mod search;
mod tunnel;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use audiovault_common::{about::ShownVersion, http_error::HttpError};
use audiovault_protocol::{identity::site::SiteId, recording::name::RecordedNames};
use http::HeaderValue;
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::{cors::AllowOrigin, entrance::PublicSide, forwarded::router as router_for_relays};
use crate::{
    audit::journal::Journal,
    limits::{ClientKey, Limits, SitePermit},
    monitoring::metrics::HttpMetrics,
    net::public_url::PublicUrl,
    routing::router::AgentRouter,
    sites::directory::{Directory, Refresher},
    store::Store,
    tunnel::registry::Registry,
};

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
