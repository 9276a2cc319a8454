//! The relay's database, which holds everything that the relay stores.
//!
//! [`Store`] is one implementation for all databases that a [`DatabaseUrl`] can name. It uses the SQL that all
//! of them understand: `$n` parameters, `BIGINT` milliseconds, `TEXT`, `ON CONFLICT`. Each topic has its own
//! file here.
//!
//! Every change of the sites increments one generation number in the same transaction. A running relay notices
//! the changes of other processes by reading this one integer.

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
mod migrations;
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

use audiovault_protocol::identity::site::SiteId;
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

/// A database of the relay. Other processes may use it at the same time. Cheap to clone.
///
/// Every method that changes something is one transaction; a refused change leaves everything as it was. A
/// method that changes something for an operator takes the [`Actor`](crate::model::operator_events::Actor), and
/// its transaction (`operator_events::Change`) cannot be committed without an event.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    /// Used by [`Store::write`] alone.
    journal: AnyPool,
    backend: open::Backend,
    /// How long other sites cannot take the names of removed sites and aliases.
    name_rest: Duration,
    erasure_key: Arc<OnceCell<ErasureKey>>,
}

/// The default time for which other sites cannot take the names of removed sites and aliases. A customer who
/// has left notices within a quarter that their QueueMetrics still searches here.
pub const DEFAULT_NAME_REST: Duration = Duration::from_secs(90 * 86_400);

impl Store {
    /// The same database, with another time for which other sites cannot take the names of removed ones.
    #[must_use]
    pub fn with_name_rest(self, name_rest: Duration) -> Self {
        Self { name_rest, ..self }
    }

    /// Begins a transaction without an operators' event, with a statement that takes the write lock.
    async fn begin(&self, lock: &'static str) -> Result<Transaction<'static, Any>, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(lock).execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Closes the database, after the operations that are under way.
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
