//! Reads call detail records from MySQL or MariaDB: the table `cdr` that Asterisk's `cdr_mysql` and
//! `cdr_adaptive_odbc` fill, and FreePBX, which adds `recordingfile`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use parking_lot::Mutex;
use sqlx::{
    ConnectOptions, Executor, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlRow, MySqlSslMode},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
    time::timeout,
};
use url::Url;

use super::{CdrError, Leg, READ_TIMEOUT};
use crate::{
    auth::secret::Secret,
    net::{DnsError, resolve},
};

/// Connections that are kept for the next query. The database belongs to the PBX, which needs it to record calls.
const KEPT: usize = 2;
/// The default port of MySQL.
const PORT: u16 = 3306;
/// SQLSTATE for a column that does not exist.
const UNKNOWN_COLUMN: &str = "42S22";

/// Why the database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The host name has no address.
    #[error("cannot find the address of {0}")]
    Name(String, #[source] DnsError),
    /// The server has no TLS, or its certificate does not prove its identity.
    #[error(
        "the server does not prove its identity by TLS: give it a certificate for that host, and name its \
         certificate authority with ssl-ca=FILE in the address; on a network that only you can reach, \
         ssl-mode=REQUIRED (encrypted, not verified) or ssl-mode=DISABLED (not encrypted) is possible"
    )]
    Unproven(#[source] sqlx::Error),
    /// The database cannot be connected to, or refuses the query.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let in_handshake =
            |error: &io::Error| error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let is_about_tls = matches!(&error, sqlx::Error::Tls(_))
            || matches!(&error, sqlx::Error::Io(error) if in_handshake(error));
        if is_about_tls { Self::Unproven(error) } else { Self::Database(error) }
    }
}

/// The database of the call detail records.
pub(super) struct Database {
    options: MySqlConnectOptions,
    /// The host; `None` for a local Unix socket.
    host: Option<String>,
    port: u16,
    /// How TLS is used, if the address says so.
    mode: Option<MySqlSslMode>,
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
        let mode = url.query_pairs().find(|(name, _)| matches!(&**name, "ssl-mode" | "sslmode"));
        let mode = mode.map(|(_, mode)| mode.parse()).transpose().map_err(CdrError::Address)?;
        Ok(Self { options, host, port: url.port().unwrap_or(PORT), mode, idle: Mutex::default() })
    }

    /// All legs of the conversations that have a leg with one of these ids.
    pub(super) async fn legs(&self, ids: &[String; 2]) -> Result<Vec<Leg>, DatabaseError> {
        let kept = self.idle.lock().pop();
        if let Some(mut connection) = kept
            // The database may have closed it since.
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
        let mut idle = self.idle.lock();
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }

    /// Connects to one of the host's addresses, which are looked up again each time. The library would look them up
    /// with the C library, which a static program does not have.
    async fn connect(&self) -> Result<MySqlConnection, DatabaseError> {
        let Some(host) = &self.host else { return Ok(open(&self.options).await?) };
        let addresses = resolve(host).await.map_err(|error| DatabaseError::Name(host.clone(), error))?;
        let mut failure = sqlx::Error::PoolClosed;
        for address in addresses {
            match self.connect_to(host, address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure.into())
    }

    /// Connects to one address of the host. Unless configured otherwise, a server on another machine must prove its
    /// identity with TLS.
    async fn connect_to(&self, host: &str, address: IpAddr) -> Result<MySqlConnection, sqlx::Error> {
        let is_here = address.to_canonical().is_loopback();
        let mode = match self.mode {
            Some(mode) => mode,
            None if is_here => MySqlSslMode::Preferred,
            None => MySqlSslMode::VerifyIdentity,
        };
        let options = self.options.clone().ssl_mode(mode);
        if matches!(mode, MySqlSslMode::VerifyIdentity) && host.parse::<IpAddr>().is_err() {
            let socket = socket_to(SocketAddr::new(address, self.port)).await?;
            return open(&options.host(host).socket(socket)).await;
        }
        open(&options.host(&address.to_string())).await
    }
}

/// Creates a Unix socket that forwards to an address. The library takes the name for the certificate and the host to
/// connect to from one field, and would look the name up with the C library. With a socket it connects there, and
/// uses the name for the certificate only.
async fn socket_to(address: SocketAddr) -> io::Result<PathBuf> {
    let mut far = TcpStream::connect(address).await?;
    far.set_nodelay(true)?;
    // An abstract socket, without a file, in this network namespace (unix(7)), with a name too long to guess.
    let path = PathBuf::from(format!("\0audiovault-agent-{:032x}", rand::random::<u128>()));
    let listener = UnixListener::bind(&path)?;
    tokio::spawn(async move {
        while let Ok(Ok((mut near, _))) = timeout(READ_TIMEOUT, listener.accept()).await {
            // Other programs on this machine can see the name while the socket exists.
            let peer = near.peer_cred().ok().and_then(|peer| peer.pid());
            if peer.is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id())) {
                drop(listener);
                let _ = copy_bidirectional(&mut near, &mut far).await;
                return;
            }
        }
    });
    Ok(path)
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
            // Plain Asterisk has no column for the recording.
            let plain = "SELECT DISTINCT uniqueid FROM cdr WHERE linkedid = ? LIMIT 100";
            sqlx::query(plain).bind(linked).fetch_all(connection).await
        }
        rows => rows,
    };
    Ok(rows?.iter().map(|row| Leg { id: string(row, 0), recording: string(row, 1) }).collect())
}

/// A text column; empty if it is NULL or missing.
fn string(row: &MySqlRow, column: usize) -> String {
    row.try_get::<Option<String>, _>(column).ok().flatten().unwrap_or_default()
}
