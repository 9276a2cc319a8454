//! The agent's HTTP service: the one implementation of search and download, behind a tunnel and on a local port.

pub mod body;
pub mod conditions;
pub mod current;
mod failure;
mod form;
mod frame;
pub mod range;
mod recordings;
mod search;
mod spare;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::failure::Failure;
use tokio::sync::Semaphore;

use crate::{
    access::Access,
    cdr::{Cdr, CdrSettings},
    deny::{Deny, DenySettings},
    dialect::Dialect,
    limits::{Pacer, Schedule},
    links::{LinkSettings, Links},
    record::RecordSettings,
    sound::snapshots::Snapshots,
    throttle::TokenThrottle,
    vault::{Vault, VaultSettings},
};
use audiovault_protocol::{parameters::token_names, recording_name::RecordedNames, signed_link::LinkKeyId};

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Where recordings lie.
    pub vault: VaultSettings,
    /// Who may search.
    pub access: Access,
    /// How links are made.
    pub links: LinkSettings,
    /// How names of recordings are told for the record.
    pub recorded_names: RecordedNames,
    /// How fast all downloads together may go.
    pub max_rate: Schedule,
    /// How many downloads may run at a time.
    pub max_streams: u32,
    /// Where searches and deliveries are recorded, if anywhere.
    pub record: Option<RecordSettings>,
    /// What is not offered although it is there, if anything.
    pub deny: Option<DenySettings>,
    /// What tells the legs of a conversation, if anything.
    pub cdr: Option<CdrSettings>,
    /// In whose words searches come and are answered.
    pub dialect: Dialect,
    /// Whether the names of a search's fields are logged.
    pub verbose_search: bool,
}

/// Search and download.
///
/// Requests may carry, as extensions, what [`audiovault_protocol::context`] defines: the request id, the base of
/// links, the deadline. Responses carry an [`audiovault_protocol::context::Audit`]. Every error is a problem
/// document (RFC 9457) with the request id.
#[derive(Debug)]
pub struct AgentService {
    vault: Arc<Vault>,
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
    /// Where to go on decoding what was listened to last.
    snapshots: Arc<Snapshots>,
}

impl AgentService {
    /// The service for these settings, which leaves out what `deny` says.
    pub fn new(settings: ServiceSettings, deny: Deny) -> Self {
        let vault = Arc::new(Vault::new(settings.vault.clone()));
        Self::over(vault, settings, deny, TokenThrottle::default())
    }

    /// The service for new settings; what is known of the recordings stays known where they lie where they lay.
    pub fn renewed(&self, settings: ServiceSettings) -> Self {
        let vault = if *self.vault.settings() == settings.vault {
            Arc::clone(&self.vault)
        } else {
            Arc::new(Vault::new(settings.vault.clone()))
        };
        Self::over(vault, settings, self.deny.clone(), self.throttle.clone())
    }

    fn over(vault: Arc<Vault>, settings: ServiceSettings, deny: Deny, throttle: TokenThrottle) -> Self {
        let links = Links::new(settings.links, &settings.vault.roots, &settings.access);
        let places = usize::try_from(settings.max_streams).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            vault,
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
            // Positions of drivers may mean others now.
            snapshots: Arc::default(),
        }
    }

    /// Where recordings lie, for whoever watches over the storage.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Names the secret of the links, for HELLO.
    pub fn link_key_id(&self) -> LinkKeyId {
        self.links.key_id()
    }

    /// The names under which a search's token is taken, for HELLO.
    pub fn token_fields(&self) -> Vec<String> {
        token_names(&self.dialect.names)
    }

    /// What the relay's operator should know of the configuration, for STATUS.
    pub fn problems(&self) -> Vec<String> {
        self.access.warning().into_iter().collect()
    }

    /// Names of the tenants that may search, for HELLO.
    pub fn tenants(&self) -> Vec<String> {
        self.access.tenants()
    }
}
