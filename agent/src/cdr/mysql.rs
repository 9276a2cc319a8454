//! Call detail records in MySQL or MariaDB: the table `cdr` that Asterisk's `cdr_mysql` and `cdr_adaptive_odbc` fill, and
//! FreePBX, which adds `recordingfile`.

use std::{
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use sqlx::{
    ConnectOptions, Executor, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlRow},
};
use url::Url;

use super::{CdrError, Leg};
use crate::{
    reach::{DnsError, resolve},
    secret::Secret,
};

/// Connections that are kept for the next question. The database is the PBX's, and has calls to write.
const KEPT: usize = 2;
/// SQLSTATE of a column that there is not.
const UNKNOWN_COLUMN: &str = "42S22";

/// Why a database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Its name has no address.
    #[error("cannot find the address of {0}")]
    Name(String, #[source] DnsError),
    /// It cannot be connected to, or refuses.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The database.
pub(super) struct Database {
    options: MySqlConnectOptions,
    /// Where it is, unless at a socket of this machine.
    host: Option<String>,
    idle: Mutex<Vec<MySqlConnection>>,
}

impl Database {
    pub(super) fn new(url: &Url, password: Option<&Secret>) -> Result<Self, CdrError> {
        let mut options = MySqlConnectOptions::from_str(url.as_str()).map_err(CdrError::Address)?;
        if let Some(password) = password {
            options = options.password(password.reveal());
        }
        let at_socket = url.query_pairs().any(|(name, _)| name == "socket");
        let host = url.host_str().filter(|_| !at_socket).map(|host| host.trim_matches(['[', ']']).to_owned());
        Ok(Self { options, host, idle: Mutex::default() })
    }

    /// All legs of the conversations that have a leg with one of these ids.
    pub(super) async fn legs(&self, ids: &[String; 2]) -> Result<Vec<Leg>, DatabaseError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut connection) = kept
            // The database may have closed it meanwhile.
            && let Ok(legs) = legs(&mut connection, ids).await
        {
            self.keep(connection);
            return Ok(legs);
        }
        let mut connection = self.connect().await?;
        let legs = legs(&mut connection, ids).await?;
        self.keep(connection);
        Ok(legs)
    }

    fn keep(&self, connection: MySqlConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }

    /// Connects to one of its addresses, which are asked for anew. The library's own way would be that of the C library,
    /// which a static program has not.
    async fn connect(&self) -> Result<MySqlConnection, DatabaseError> {
        let Some(host) = &self.host else { return Ok(open(&self.options).await?) };
        let addresses = resolve(host).await.map_err(|error| DatabaseError::Name(host.clone(), error))?;
        let mut failure = sqlx::Error::PoolClosed;
        for address in addresses {
            match open(&self.options.clone().host(&address.to_string())).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    }
}

async fn open(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
    Ok(connection)
}

async fn legs(connection: &mut MySqlConnection, ids: &[String; 2]) -> Result<Vec<Leg>, sqlx::Error> {
    let conversations =
        "SELECT DISTINCT linkedid FROM cdr WHERE uniqueid IN (?, ?) OR linkedid IN (?, ?) LIMIT 10";
    let [text, bare] = ids;
    let asked = sqlx::query(conversations).bind(text).bind(bare).bind(text).bind(bare);
    let found = asked.fetch_all(&mut *connection).await?;
    let mut legs = Vec::new();
    for linked in found.iter().map(|row| string(row, 0)).filter(|linked| !linked.is_empty()) {
        legs.extend(conversation(connection, &linked).await?);
    }
    Ok(legs)
}

async fn conversation(connection: &mut MySqlConnection, linked: &str) -> Result<Vec<Leg>, sqlx::Error> {
    let told = "SELECT DISTINCT uniqueid, recordingfile FROM cdr WHERE linkedid = ? LIMIT 100";
    let rows = match sqlx::query(told).bind(linked).fetch_all(&mut *connection).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNKNOWN_COLUMN) => {
            // Plain Asterisk does not know what was recorded.
            let plain = "SELECT DISTINCT uniqueid FROM cdr WHERE linkedid = ? LIMIT 100";
            sqlx::query(plain).bind(linked).fetch_all(connection).await
        }
        rows => rows,
    };
    Ok(rows?.iter().map(|row| Leg { id: string(row, 0), recording: string(row, 1) }).collect())
}

/// A text; nothing where there is none.
fn string(row: &MySqlRow, column: usize) -> String {
    row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default()
}
