//! The agent's HTTP service: the only implementation of search and download, for tunnels and for a local port.

pub mod about;
pub mod body;
mod buffer_pool;
pub mod conditions;
pub mod current;
pub mod decoding;
pub mod dialect;
mod envelope;
mod form;
mod http_error;
pub mod links;
pub mod listener;
pub mod monitor;
pub mod range;
mod recordings;
mod search;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::http_error::HttpError;
use tokio::sync::Semaphore;

use crate::{
    audio::snapshots::Snapshots,
    audit::AuditLogSettings,
    auth::access::Access,
    http::{
        dialect::Dialect,
        links::{LinkSettings, Links},
    },
    limits::{Pacer, Schedule, throttle::TokenThrottle},
    storage::{
        RecordingStorage, StorageSettings,
        deny_list::{Deny, DenySettings},
        linked_calls::{Cdr, CdrSettings},
    },
};
use audiovault_protocol::{
    http::parameters::token_names, identity::signed_link::LinkKeyId, recording::name::RecordedNames,
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
/// Requests may carry extensions that [`audiovault_protocol::http::context`] defines: the request id, the base address of
/// links, and the deadline. Responses carry an [`audiovault_protocol::http::context::Audit`]. Every error is a problem
/// document (RFC 9457) with the request id.
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
    snapshots: Arc<Snapshots>,
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
            // The positions of the drivers may mean other drivers now.
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
        self.access.warning().into_iter().collect()
    }

    /// Names of the tenants that may search, for HELLO.
    pub fn tenants(&self) -> Vec<String> {
        self.access.tenants()
    }
}
