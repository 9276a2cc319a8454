//! The agent's HTTP service: the only implementation of search and download, for tunnels and for a local port.

pub mod about;
pub mod body;
pub mod dialect;
mod envelope;
mod errors;
pub mod links;
pub mod listener;
pub mod monitor;
mod outcome;
mod paths;
mod recordings;
mod search;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use audiovault_common::advice::Warning;
use audiovault_protocol::{
    http::{context::RequestContext, parameters::token_names},
    identity::signed_link::LinkKeyId,
    link::{AgentAnswer, Respond},
    recording::name::RecordedNames,
};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::sync::{Semaphore, watch};

pub use self::outcome::ServiceBody;
use self::{
    dialect::Dialect,
    links::{LinkSettings, Links},
    recordings::Content,
};
use crate::{
    audio::snapshots::Snapshots,
    audit::{AuditLogSettings, Recorder},
    auth::Access,
    limits::{Pacer, Schedule, throttle::TokenThrottle},
    status::Problems,
    storage::{
        RecordingStorage, StorageSettings,
        deny_list::{Deny, DenySettings},
        linked_calls::{Cdr, CdrSettings},
    },
};

/// The settings of the service.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Where recordings lie and how they are searched.
    pub storage: StorageSettings,
    /// The tokens that may search.
    pub access: Access,
    /// How links are made.
    pub links: LinkSettings,
    /// How names of recordings are written to the audit log.
    pub recorded_names: RecordedNames,
    /// The rate limit of all downloads together.
    pub max_rate: Schedule,
    /// How many downloads may run at a time.
    pub max_streams: u32,
    /// The audit log of searches and deliveries, if there is one.
    pub audit_log: Option<AuditLogSettings>,
    /// The deny list, if there is one.
    pub deny: Option<DenySettings>,
    /// The database that knows which legs belong to a conversation, if there is one.
    pub cdr: Option<CdrSettings>,
    /// The field mapping of searches and their responses.
    pub dialect: Dialect,
    /// Whether the names of a search's fields are logged.
    pub verbose_search: bool,
}

/// Search and download.
///
/// A request comes with its [`RequestContext`], and its response goes with what the audit logs need. Every error is a
/// problem document (RFC 9457) with the request id.
#[derive(Debug)]
pub struct AgentService {
    storage: Arc<RecordingStorage>,
    access: Access,
    links: Links,
    recorded_names: RecordedNames,
    deny: Deny,
    cdr: Option<Cdr>,
    dialect: Dialect,
    verbose_search: bool,
    throttle: TokenThrottle,
    pacer: Option<Arc<Pacer>>,
    /// A permit for each download that may run.
    places: Arc<Semaphore>,
    /// Decoder states from which the latest downloads can continue.
    snapshots: Arc<Snapshots<Content>>,
}

impl AgentService {
    /// Creates the service for these settings. It leaves out what `deny` lists.
    pub fn new(settings: ServiceSettings, deny: Deny) -> Self {
        let storage = Arc::new(RecordingStorage::new(settings.storage.clone()));
        Self::over(storage, settings, deny, TokenThrottle::default())
    }

    /// Creates the service for new settings. What is known of the recordings is kept if the vault's settings are the
    /// same.
    pub fn renewed(&self, settings: ServiceSettings) -> Self {
        let storage = if *self.storage.settings() == settings.storage {
            Arc::clone(&self.storage)
        } else {
            Arc::new(RecordingStorage::new(settings.storage.clone()))
        };
        Self::over(storage, settings, self.deny.clone(), self.throttle.clone())
    }

    fn over(
        storage: Arc<RecordingStorage>,
        settings: ServiceSettings,
        deny: Deny,
        throttle: TokenThrottle,
    ) -> Self {
        let links = Links::new(settings.links, &settings.storage.roots, &settings.access);
        let places = usize::try_from(settings.max_streams).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            storage,
            access: settings.access,
            links,
            recorded_names: settings.recorded_names,
            deny,
            throttle,
            // The address was checked with the configuration.
            cdr: settings.cdr.as_ref().and_then(|cdr| Cdr::new(cdr).ok()),
            dialect: settings.dialect,
            verbose_search: settings.verbose_search,
            pacer: Some(settings.max_rate).filter(|rates| !rates.is_empty()).map(Pacer::new),
            places: Arc::new(Semaphore::new(places)),
            // They are kept under a `RootId`, which may mean another root now.
            snapshots: Arc::default(),
        }
    }

    /// The vault, for the task that watches the storage.
    pub fn storage(&self) -> &Arc<RecordingStorage> {
        &self.storage
    }

    /// The id of the link key, for HELLO.
    pub fn link_key_id(&self) -> LinkKeyId {
        self.links.key_id()
    }

    /// The names of fields that can hold a search token, for HELLO.
    pub fn token_fields(&self) -> Vec<String> {
        token_names(&self.dialect.names)
    }

    /// Configuration problems that the relay's operator should know, for STATUS.
    pub fn problems(&self) -> Vec<String> {
        self.access.warning().iter().map(Warning::to_string).collect()
    }

    /// Names of the tenants that may search, for HELLO.
    pub fn tenants(&self) -> Vec<String> {
        self.access.tenants()
    }
}

/// The service with its current configuration: a reload replaces all of it, and running requests keep the old one.
/// Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub struct Current {
    service: watch::Sender<Arc<AgentService>>,
    recorder: Recorder,
    deny: Deny,
    problems: Problems,
}

impl Current {
    /// Starts with these settings.
    pub fn new(settings: ServiceSettings) -> Self {
        let problems = Problems::default();
        let recorder = Recorder::new(problems.clone());
        recorder.configure(settings.audit_log.clone());
        let deny = Deny::new(problems.clone());
        deny.configure(settings.deny.clone());
        let service = watch::Sender::new(Arc::new(AgentService::new(settings, deny.clone())));
        Self { service, recorder, deny, problems }
    }

    /// The current service.
    pub fn load(&self) -> Arc<AgentService> {
        Arc::clone(&self.service.borrow())
    }

    /// Replaces the settings.
    pub fn renew(&self, settings: ServiceSettings) {
        self.recorder.configure(settings.audit_log.clone());
        self.deny.configure(settings.deny.clone());
        self.service.send_modify(|service| *service = Arc::new(service.renewed(settings)));
    }

    /// The problems of the agent itself.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Writes the pending events to the audit log. Call it when nothing is served any more.
    pub async fn finish(&self) {
        self.recorder.finish().await;
    }

    /// Subscribes to the service: the receiver sees each replacement.
    pub fn follow(&self) -> watch::Receiver<Arc<AgentService>> {
        self.service.subscribe()
    }
}

impl Respond for Current {
    type Body = ServiceBody;

    fn respond(
        &self,
        context: RequestContext,
        request: Request<Bytes>,
    ) -> impl Future<Output = AgentAnswer<ServiceBody>> + Send {
        self.answer(context, request.map(Full::new))
    }
}
