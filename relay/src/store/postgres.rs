//! A database of a PostgreSQL server, which several relays may share.

use std::sync::Arc;

use sqlx::{AnyConnection, ConnectOptions, Connection, Row, any::AnyConnectOptions};

use super::{
    DEFAULT_NAME_REST, OpenError, Store, migrations,
    open::{Backend, IfMissing, PostgresUrl, journal_pool, migrate, pool},
};

/// The statements that every connection runs first. A transaction here changes only a few rows: one that takes
/// longer, or is left open, hangs, and must not hold up the other relays. A confirmed commit is on disk,
/// regardless of the server's default.
pub(super) const SETUP: &str = "SET statement_timeout = '30s'; SET lock_timeout = '5s'; SET synchronous_commit = on; \
     SET idle_in_transaction_session_timeout = '30s'; SET client_min_messages = warning; SET timezone = 'UTC'";
/// The oldest server version that behaves as the statements expect, in the form of `server_version_num`.
const OLDEST: i64 = 150_000;

const VERSION: &str =
    "SELECT CAST(current_setting('server_version_num') AS BIGINT), current_setting('server_version')";
const HAS_TABLES: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM information_schema.tables \
     WHERE table_schema = current_schema() AND table_name = 'meta'";

/// Opens a database that exists. If it has no tables yet, they are created, unless `if_missing` forbids it.
pub(super) async fn open(url: &PostgresUrl, if_missing: IfMissing) -> Result<Store, OpenError> {
    let failed = |source| {
        let database = url.to_string();
        match is_about_tls(&source) {
            true => OpenError::Unproven { database, source },
            false => OpenError::Unreachable { database, source },
        }
    };
    let parsed = url.reveal().parse().map_err(|_| failed(sqlx::Error::Configuration("not a URL".into())))?;
    let options = AnyConnectOptions::from_url(&parsed).map_err(failed)?;
    // A pool would retry again and again; one connection reports the error at once.
    let mut probe = options.connect().await.map_err(failed)?;
    let (number, version) = version(&mut probe).await.map_err(failed)?;
    if number < OLDEST {
        return Err(OpenError::OldServer { database: url.to_string(), version });
    }
    let tables = sqlx::query(HAS_TABLES).fetch_one(&mut probe).await.map_err(failed)?;
    if if_missing == IfMissing::Refuse && tables.try_get::<i64, _>(0).map_err(failed)? == 0 {
        return Err(OpenError::Empty(url.to_string()));
    }
    probe.close().await.map_err(failed)?;
    let all = pool(SETUP).connect_with(options.clone()).await.map_err(failed)?;
    migrate(&migrations::POSTGRES, &all, url).await?;
    let backend = Backend::Postgres(url.clone());
    Ok(Store {
        pool: all,
        journal: journal_pool(SETUP, options),
        events: None,
        backend,
        name_rest: DEFAULT_NAME_REST,
        erasure_key: Arc::default(),
    })
}

/// True if the connection failed because the server did not prove its identity, or has no TLS.
fn is_about_tls(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Io(error) = error {
        return error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    }
    matches!(error, sqlx::Error::Tls(_))
}

async fn version(connection: &mut AnyConnection) -> Result<(i64, String), sqlx::Error> {
    let row = sqlx::query(VERSION).fetch_one(connection).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
