//! Opens a database and brings its schema up to date.

use std::{fmt::Display, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migrator},
};

use super::{DatabaseUrl, OpenError, PostgresUrl, Store, StoreError, postgres, sqlite};

/// How long somebody waits for a connection, or a writer for another one. Every transaction here is a handful of rows: a
/// lock held for longer belongs to a program that hangs.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The poller, the audit's writer, pages of operators and some slack; SQLite has a single writer anyway.
const MAX_CONNECTIONS: u32 = 8;

/// What to do when the database does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// Make an empty one, readable by its owner alone.
    Create,
    /// Say so; for commands that make no sense on an empty database.
    Refuse,
}

impl IfMissing {
    /// For commands of which only some have sense on an empty database: those that add something.
    pub(crate) fn when_adding(adds: bool) -> Self {
        if adds { Self::Create } else { Self::Refuse }
    }
}

/// What stands behind a store, where the two differ.
#[derive(Debug, Clone)]
pub(super) enum Backend {
    Sqlite(sqlite::DatabaseFile),
    Postgres(PostgresUrl),
}

/// Opens a database and brings its schema up to date. A file that is missing may be made; a server's database must exist, and
/// may be empty.
///
/// # Errors
/// [`OpenError`] when it cannot be opened, is missing and must not be made, or was written by a newer release.
pub async fn open(url: &DatabaseUrl, if_missing: IfMissing) -> Result<Store, OpenError> {
    sqlx::any::install_default_drivers();
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::open(path, if_missing).await,
        DatabaseUrl::Postgres(url) => postgres::open(url, if_missing).await,
    }
}

pub(super) fn pool(set_up: &'static str) -> AnyPoolOptions {
    pool_of(MAX_CONNECTIONS, set_up)
}

/// One connection that is always the same: it has in memory the pages that the next rows go to, where one of many would
/// read them anew each time.
pub(super) fn journal_pool(set_up: &'static str, options: AnyConnectOptions) -> AnyPool {
    pool_of(1, set_up).idle_timeout(None).max_lifetime(None).connect_lazy_with(options)
}

fn pool_of(connections: u32, set_up: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(set_up).await.map(drop) })
        })
        .after_release(|connection, _| Box::pin(is_at_rest(connection)))
}

/// Whether a connection may be used again. With a full disk SQLite itself takes a transaction back, of which sqlx does
/// not know: what it begins next would never be committed, and keep the write lock.
async fn is_at_rest(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // The end of a dropped transaction may still be on its way to the connection; this waits for it.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

pub(super) async fn migrate(
    migrations: &Migrator,
    pool: &AnyPool,
    database: &impl Display,
) -> Result<(), OpenError> {
    migrations.run(pool).await.map_err(|source| {
        let database = database.to_string();
        if matches!(source, MigrateError::VersionMissing(_)) {
            return OpenError::NewerSchema(database);
        }
        OpenError::Migrate { database, source }
    })
}

impl Store {
    /// Begins to read in one snapshot, whatever others write meanwhile.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.backend {
            // A transaction of SQLite is one from its first statement.
            Backend::Sqlite(_) => "BEGIN",
            Backend::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(self.pool.begin_with(begin).await?)
    }
}
