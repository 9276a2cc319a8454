//! The relay's database, which holds everything that the relay stores.
//!
//! [`Store`] is one implementation for all databases that a [`DatabaseUrl`] can name. It uses the SQL that all of them
//! understand: `$n` parameters, `BIGINT` milliseconds, `TEXT`, `ON CONFLICT`. Each topic has its own file here; this
//! one has the table `meta`: the generation of the sites, the relay's public URL, and the key for the list of erased
//! calls.
//!
//! Every change of the sites increments one generation number in the same transaction. A running relay notices the
//! changes of other processes by reading this one integer.

mod agent_events;
mod api_tokens;
mod audit;
mod conditions;
mod enrolments;
mod error;
mod history;
mod journal;
mod migrations;
mod open;
mod operator_events;
mod postgres;
mod routes;
mod sites;
mod sqlite;
mod transfer;
mod user_sessions;
mod users;

use std::{path::Path, sync::Arc, time::Duration};

use audiovault_protocol::identity::site::SiteId;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sqlx::{Any, AnyPool, Row, SqlitePool, Transaction};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use self::open::Backend;
pub(crate) use self::open::without_passwords;
pub use self::{
    api_tokens::{NewToken, StoredToken},
    audit::{AuditFilter, Cursor},
    enrolments::{EnrolmentRecord, NewCode, Trade},
    error::{DatabaseUrlError, OpenError, StoreError},
    history::{RunMinute, Traffic, TunnelRecord, hour},
    journal::{Progress, Record, TrafficShare, TunnelOpened},
    open::{DatabaseUrl, IfMissing, NoDatabase, PostgresUrl, open, open_named},
    operator_events::OperatorFilter,
    routes::{NodeRecord, RouteBook, RouteChange, RouteListener, RouteNews, RouteRecord},
    sites::{LoadedSites, MAX_VALID_KEYS, NewSite, StoredKey, StoredSite},
    transfer::{BackupError, TransferError},
    user_sessions::{SessionTimes, StoredSession},
    users::{NewUser, StoredUser},
};
use crate::model::audit::ErasureKey;

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
    /// Used by [`Store::write`] alone, for batches of events. `None` for PostgreSQL.
    events: Option<SqlitePool>,
    backend: Backend,
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

    /// The file of a SQLite database.
    pub fn file(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Sqlite(file) => Some(&file.path),
            Backend::Postgres(_) => None,
        }
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
        if let Some(events) = &self.events {
            events.close().await;
        }
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

/// Comes first in every change of the sites. It takes the write lock before anything is read, so that two
/// writers queue up and neither fails at commit.
const BUMP_GENERATION: &str = "UPDATE meta SET generation = generation + 1 WHERE id = 1";
const GENERATION: &str = "SELECT generation FROM meta WHERE id = 1";
const PUBLIC_URL: &str = "SELECT public_url FROM meta WHERE id = 1";
const ERASURE_KEY: &str = "SELECT erasure_key FROM meta WHERE id = 1";
const SET_PUBLIC_URL: &str = "UPDATE meta SET public_url = $1 WHERE id = 1";

impl Store {
    /// A number that increases with every change of the sites, made by any process.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if the database file is no longer where it was opened; [`StoreError::Database`] if
    /// the database fails.
    pub async fn generation(&self) -> Result<i64, StoreError> {
        // SQLite would continue to read a file that was deleted or replaced, and never see another change.
        if let Backend::Sqlite(file) = &self.backend
            && !file.is_in_place()
        {
            return Err(StoreError::Moved(file.path.clone()));
        }
        let row = sqlx::query(GENERATION).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// The public URL of the relay that last started on this database.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn public_url(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(PUBLIC_URL).fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// The key for the list of erased calls. It was drawn at random when the table was created, and is read
    /// once.
    async fn erasure_key(&self) -> Result<&ErasureKey, StoreError> {
        let read = async || {
            let row = sqlx::query(ERASURE_KEY).fetch_one(&self.pool).await?;
            let key: Zeroizing<String> = Zeroizing::new(row.try_get(0)?);
            let key = HEXLOWER.decode(key.as_bytes()).map_err(|_| corrupt("key of erasures"))?;
            Ok(ErasureKey::new(key))
        };
        self.erasure_key.get_or_try_init(read).await
    }

    /// Stores the public URL for commands, which run in other processes.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub async fn set_public_url(&self, url: &str) -> Result<(), StoreError> {
        let mut tx = self.begin(BUMP_GENERATION).await?;
        sqlx::query(SET_PUBLIC_URL).bind(url).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
pub(crate) mod fresh;
#[cfg(test)]
mod tests;
