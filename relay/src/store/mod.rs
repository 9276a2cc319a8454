//! What the relay keeps, in one database.
//!
//! [`Store`] is one implementation over whatever database [`DatabaseUrl`] names, in the dialect that all of them
//! share: `$n` parameters, `BIGINT` milliseconds, `TEXT`, `ON CONFLICT`. Each topic has a file of its own here.
//!
//! Every change of the sites bumps one generation number in the same transaction, so that a running relay notices
//! what another process changed by reading a single integer.

mod agent_events;
mod announcements;
mod api_tokens;
mod audit;
mod backup;
mod conditions;
mod enrolments;
mod error;
mod history;
mod journal;
mod meta;
mod named;
mod open;
mod operator_events;
mod postgres;
mod pseudonyms;
mod routes;
mod sites;
mod sqlite;
mod transfer;
mod url;
mod user_sessions;
mod users;

use std::{sync::Arc, time::Duration};

use audiovault_protocol::site::SiteId;
use jiff::Timestamp;
use sqlx::{Any, AnyPool, Transaction};
use tokio::sync::OnceCell;

use crate::model::audit::ErasureKey;

pub(crate) use self::url::without_passwords;
pub use self::{
    api_tokens::{NewToken, StoredToken},
    audit::{AuditFilter, Cursor},
    backup::BackupError,
    enrolments::{EnrolmentRecord, NewCode, Trade},
    error::{DatabaseUrlError, OpenError, StoreError},
    history::{RunMinute, Traffic, TunnelRecord, hour},
    journal::{Progress, Record, TrafficShare, TunnelOpened},
    named::{NoDatabase, open_named},
    open::{IfMissing, open},
    operator_events::OperatorFilter,
    routes::{NodeRecord, RouteBook, RouteChange, RouteListener, RouteNews, RouteRecord},
    sites::{LoadedSites, MAX_VALID_KEYS, NewSite, StoredKey, StoredSite},
    transfer::TransferError,
    url::{DatabaseUrl, PostgresUrl},
    user_sessions::{SessionTimes, StoredSession},
    users::{NewUser, StoredUser},
};

/// A database of the relay, shared safely with other processes. Cheap to clone.
///
/// Every method that changes something is one transaction; a refused change leaves everything as it was. A method that
/// changes something for an operator takes the [`Actor`](crate::model::operator_events::Actor), and its transaction
/// (`operator_events::Change`) cannot be committed without an event.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    /// For [`Store::write`] alone.
    journal: AnyPool,
    backend: open::Backend,
    /// How long the names of removed sites and aliases are kept from others.
    name_rest: Duration,
    erasure_key: Arc<OnceCell<ErasureKey>>,
}

/// How long the names of removed sites and aliases rest, unless configured otherwise: a customer who has left notices within a
/// quarter that a QueueMetrics of theirs still searches here.
pub const DEFAULT_NAME_REST: Duration = Duration::from_secs(90 * 86_400);

impl Store {
    /// The same database with another time for which the names of removed sites and aliases rest.
    #[must_use]
    pub fn with_name_rest(self, name_rest: Duration) -> Self {
        Self { name_rest, ..self }
    }

    /// Begins a transaction that nobody is on record for, with a statement that takes the write lock.
    async fn begin(&self, lock: &'static str) -> Result<Transaction<'static, Any>, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(lock).execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Ends all use; waits for what is under way.
    pub async fn close(&self) {
        self.journal.close().await;
        self.pool.close().await;
    }
}

fn timestamp(ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(ms).map_err(|_| corrupt("time"))
}

fn site(text: &str) -> Result<SiteId, StoreError> {
    SiteId::parse(text).map_err(|_| corrupt("site"))
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { what }
}

#[cfg(test)]
pub(crate) mod fresh;
#[cfg(test)]
mod sqlite_tests;
#[cfg(test)]
mod tests;
