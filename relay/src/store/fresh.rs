//! A new database for each test: an SQLite file, or a schema of the PostgreSQL database that
//! `AUDIOVAULT_TEST_DATABASE` names. The same tests pass on both.

use std::{net::IpAddr, path::PathBuf};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use super::{DatabaseUrl, IfMissing, Store, open};
use crate::model::operator_events::{Actor, ActorKind};

/// The actor of the changes in tests.
pub(crate) fn operator() -> Actor {
    Actor::at(ActorKind::User, "maria", IpAddr::from([192, 0, 2, 7]))
}

/// An empty database that no other test uses.
pub(crate) struct Fresh {
    url: DatabaseUrl,
    directory: TempDir,
}

impl Fresh {
    pub(crate) async fn new() -> Self {
        let Ok(server) = std::env::var("AUDIOVAULT_TEST_DATABASE") else { return Self::file() };
        let directory = TempDir::new().unwrap();
        let schema = format!("test_{:032x}", rand::random::<u128>());
        let mut connection = PgConnection::connect(&server).await.unwrap();
        connection.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await.unwrap();
        let also = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{also}options[search_path]={schema}").parse().unwrap();
        Self { url, directory }
    }

    /// For tests of what only a file does.
    pub(crate) fn file() -> Self {
        let directory = TempDir::new().unwrap();
        let url = DatabaseUrl::Sqlite(directory.path().join("relay.db"));
        Self { url, directory }
    }

    pub(crate) fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// Opens the database as one process does. Another call acts as another process.
    pub(crate) async fn open(&self) -> Store {
        open(&self.url, IfMissing::Create).await.unwrap()
    }

    /// A path in the directory of the file that [`Fresh::file`] makes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
