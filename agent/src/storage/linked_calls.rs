//! Linked calls: a PBX gives every leg of a conversation its own call id, and its call detail records (CDR) say which
//! legs belong together. With them, a search for one leg finds the recordings of all legs.
//!
//! The records are in MySQL or MariaDB: the table `cdr` that Asterisk's `cdr_mysql` and `cdr_adaptive_odbc` fill, and
//! FreePBX, which adds `recordingfile`. Or they are in Asterisk's `Master.csv` (`cdr_csv`), which has no header. Its
//! columns are those of `cdr_csv.c`: sixteen, then `uniqueid` with `loguniqueid`, `userfield` with `loguserfield`, and
//! `peeraccount`, `linkedid`, `sequence` with `newcdrcolumns`.
//!
//! The records are read, never written. If they cannot be read, a search finds only what the call's own id finds.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use audiovault_agent_core::{
    call_id::{CallId, CallIdRules},
    query::Linked,
    secret::Secret,
};
use audiovault_common::advice::Advice;
use memchr::memmem::Finder;
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

use crate::net::{DnsError, resolve};

/// How long reading the records may take. The search needs the rest of the agent's 12 s.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// The most legs of one conversation: a call that was transferred for hours has a few dozen.
const MOST_LEGS: usize = 100;
/// Connections that are kept for the next query. The database belongs to the PBX, which needs it to record calls.
const KEPT: usize = 2;
/// The default port of MySQL.
const PORT: u16 = 3306;
/// SQLSTATE for a column that does not exist.
const UNKNOWN_COLUMN: &str = "42S22";
/// The index of the first column that may be missing.
const UNIQUEID: usize = 16;
/// The number of columns with all options, and without `userfield`.
const ALL: usize = 21;
const NO_USERFIELD: usize = 20;
/// The prefix with which FreePBX before version 2.11 wrote the file name of the recording into `userfield`.
const AUDIO: &str = "audio:";

/// The source of the call detail records.
#[derive(Clone)]
pub enum CdrSettings {
    /// The table `cdr` of a MySQL or MariaDB database, as Asterisk and FreePBX create it.
    MySql {
        /// Host, user and database, without the password.
        url: Url,
        /// The password.
        password: Option<Secret>,
    },
    /// Asterisk's `Master.csv`, written with `newcdrcolumns=yes`.
    MasterCsv(PathBuf),
}

impl fmt::Debug for CdrSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql { url, .. } => write!(f, "MySql({url})"),
            Self::MasterCsv(path) => write!(f, "MasterCsv({})", path.display()),
        }
    }
}

/// Why the call detail records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CdrError {
    /// The address is not valid.
    #[error("the address of the call records is invalid")]
    Address(#[source] sqlx::Error),
    /// The database does not answer, or refuses the query.
    #[error("cannot query the database of the call records")]
    Database(#[source] DatabaseError),
    /// The file cannot be read.
    #[error("the call records in {} cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The file does not say which calls belong together.
    #[error("{} has no linkedid", .0.display())]
    NoLinks(PathBuf),
    /// Reading the records took too long.
    #[error("the call records took more than {} s to answer", READ_TIMEOUT.as_secs())]
    Slow,
}

impl Advice for CdrError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Address(_) => Some("write mysql://USER@HOST/DATABASE".into()),
            Self::Database(error) => {
                error.advice().or(Some("check its address, user and grants (SELECT on cdr)".into()))
            }
            Self::File(..) => None,
            Self::NoLinks(_) => {
                Some("set newcdrcolumns=yes and loguniqueid=yes in cdr.conf of Asterisk".into())
            }
            Self::Slow => Some("create indexes on uniqueid and linkedid".into()),
        }
    }
}

/// Why the database does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The host name has no address.
    #[error("cannot find the address of {0}")]
    Name(String, #[source] DnsError),
    /// The server has no TLS, or its certificate does not prove its identity.
    #[error("the server does not prove its identity by TLS")]
    Unproven(#[source] sqlx::Error),
    /// The database cannot be connected to, or refuses the query.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl Advice for DatabaseError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Name(_, error) => error.advice(),
            Self::Unproven(_) => Some(
                "give it a certificate for that host, and name its certificate authority with ssl-ca=FILE in \
                 the address; on a network that only you can reach, ssl-mode=REQUIRED (encrypted, not \
                 verified) or ssl-mode=DISABLED (not encrypted) is possible"
                    .into(),
            ),
            Self::Database(_) => None,
        }
    }
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

/// A leg of a conversation, from its call detail record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Leg {
    id: String,
    /// The file in which it was recorded, or empty if the record does not say.
    recording: String,
}

/// The call detail records.
pub struct Cdr {
    source: Source,
}

enum Source {
    MySql(Box<Database>),
    MasterCsv(PathBuf),
}

impl fmt::Debug for Cdr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cdr").finish_non_exhaustive()
    }
}

impl Cdr {
    /// Prepares the source. Opens nothing yet.
    ///
    /// # Errors
    /// [`CdrError::Address`].
    pub fn new(settings: &CdrSettings) -> Result<Self, CdrError> {
        let source = match settings {
            CdrSettings::MySql { url, password } => {
                Source::MySql(Box::new(Database::new(url, password.as_ref())?))
            }
            CdrSettings::MasterCsv(path) => Source::MasterCsv(path.clone()),
        };
        Ok(Self { source })
    }

    /// The other legs of a call's conversation.
    ///
    /// # Errors
    /// [`CdrError`].
    pub async fn linked(&self, call: &CallId, rules: &CallIdRules) -> Result<Linked, CdrError> {
        let bare = call.bare().to_owned();
        let ids = [call.as_str().to_owned(), bare];
        let legs = timeout(READ_TIMEOUT, self.legs(ids)).await.map_err(|_| CdrError::Slow)??;
        let mut linked = Linked::default();
        for leg in legs.into_iter().take(MOST_LEGS) {
            if let Ok(id) = rules.parse(&leg.id)
                && id.needle() != call.needle()
                && !linked.ids.contains(&id)
            {
                linked.ids.push(id);
            }
            let name = leg.recording.trim().rsplit(['/', '\\']).next().unwrap_or_default();
            if !name.is_empty() && !linked.files.iter().any(|known| known == name) {
                linked.files.push(name.to_owned());
            }
        }
        Ok(linked)
    }

    async fn legs(&self, ids: [String; 2]) -> Result<Vec<Leg>, CdrError> {
        match &self.source {
            Source::MySql(database) => database.legs(&ids).await.map_err(CdrError::Database),
            Source::MasterCsv(path) => {
                let path = path.clone();
                let job = tokio::task::spawn_blocking(move || legs_in_csv(&path, &ids));
                job.await.unwrap_or(Err(CdrError::Slow))
            }
        }
    }
}

/// The database of the call detail records.
struct Database {
    options: MySqlConnectOptions,
    /// The host; `None` for a local Unix socket.
    host: Option<String>,
    port: u16,
    /// How TLS is used, if the address says so.
    mode: Option<MySqlSslMode>,
    idle: Mutex<Vec<MySqlConnection>>,
}

impl Database {
    fn new(url: &Url, password: Option<&Secret>) -> Result<Self, CdrError> {
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
    async fn legs(&self, ids: &[String; 2]) -> Result<Vec<Leg>, DatabaseError> {
        let kept = self.idle.lock().pop();
        if let Some(mut connection) = kept
            // The database may have closed it since.
            && let Ok(legs) = legs_in_database(&mut connection, ids).await
        {
            self.keep(connection);
            return Ok(legs);
        }
        let mut connection = self.connect().await?;
        let legs = legs_in_database(&mut connection, ids).await?;
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

struct Record {
    leg: Leg,
    linked: String,
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

/// All legs of the conversations that have a leg with one of these ids.
async fn legs_in_database(
    connection: &mut MySqlConnection,
    ids: &[String; 2],
) -> Result<Vec<Leg>, sqlx::Error> {
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
    let statement = "SELECT DISTINCT uniqueid, recordingfile FROM cdr WHERE linkedid = ? LIMIT 100";
    let rows = match sqlx::query(statement).bind(linked).fetch_all(&mut *connection).await {
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

/// All legs of the conversations that have a leg with one of these ids. Reads the file twice.
fn legs_in_csv(path: &Path, ids: &[String; 2]) -> Result<Vec<Leg>, CdrError> {
    let is_asked = |id: &str| ids.iter().any(|asked| asked == id);
    let mut conversations: Vec<String> = Vec::new();
    let mut without_links = false;
    let wanted: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    each_record(path, &wanted, |record| match record {
        Some(record) if is_asked(&record.leg.id) || is_asked(&record.linked) => {
            if !conversations.contains(&record.linked) {
                conversations.push(record.linked);
            }
            conversations.len() < MOST_LEGS
        }
        Some(_) => true,
        None => {
            without_links = true;
            true
        }
    })?;
    if conversations.is_empty() {
        return if without_links { Err(CdrError::NoLinks(path.to_owned())) } else { Ok(Vec::new()) };
    }
    let mut legs = Vec::new();
    let wanted: Vec<&[u8]> = conversations.iter().map(String::as_bytes).collect();
    each_record(path, &wanted, |record| {
        if let Some(record) = record.filter(|record| conversations.contains(&record.linked)) {
            legs.push(record.leg);
        }
        legs.len() < MOST_LEGS
    })?;
    Ok(legs)
}

/// Calls `each` for every record that contains one of these texts, until it returns false.
fn each_record(
    path: &Path,
    texts: &[&[u8]],
    mut each: impl FnMut(Option<Record>) -> bool,
) -> Result<(), CdrError> {
    let failed = |error| CdrError::File(path.to_owned(), error);
    let finders: Vec<Finder<'_>> = texts.iter().map(Finder::new).collect();
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    while read_line(&mut file, &mut line).map_err(failed)? {
        if finders.iter().any(|finder| finder.find(&line).is_some())
            && let Some(record) = parse_record(&line)
            && !each(record)
        {
            return Ok(());
        }
    }
    Ok(())
}

fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(file.read_until(b'\n', line)? > 0)
}

/// Parses a record: `Some(None)` if it does not name its conversation, and `None` if the line is not a record.
fn parse_record(line: &[u8]) -> Option<Option<Record>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line);
    let mut record = csv::ByteRecord::new();
    if !reader.read_byte_record(&mut record).ok()? || record.len() <= UNIQUEID {
        return None;
    }
    let text = |column: usize| {
        record.get(column).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    let (userfield, linked) = match record.len() {
        ALL => (text(UNIQUEID + 1), text(UNIQUEID + 3)),
        NO_USERFIELD => (String::new(), text(UNIQUEID + 2)),
        _ => return Some(None),
    };
    let recording = userfield.strip_prefix(AUDIO).unwrap_or_default().to_owned();
    Some(Some(Record { leg: Leg { id: text(UNIQUEID), recording }, linked }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use audiovault_common::advice::with_advice;

    use super::*;

    fn row(id: &str, more: &str) -> String {
        let first = r#""","34911223344","400","from-trunk","""Maria, S."" <34911223344>","SIP/trunk-1","SIP/101-2","Queue","400,t","#;
        let times = r#""2024-03-26 10:15:02","2024-03-26 10:15:05","2024-03-26 10:16:02",60,57,"ANSWERED","DOCUMENTATION""#;
        format!("{first}{times},\"{id}\"{more}\n")
    }

    fn found(text: &str, id: &str) -> Result<Vec<Leg>, CdrError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Master.csv");
        fs::write(&path, text).unwrap();
        legs_in_csv(&path, &[id.to_owned(), id.to_owned()])
    }

    fn leg(id: &str, recording: &str) -> Leg {
        Leg { id: id.to_owned(), recording: recording.to_owned() }
    }

    #[test]
    fn all_legs_of_a_conversation_are_found_from_any_of_them() {
        let text = [
            row("1711444502.17", r#","audio:q-400.wav","","1711444502.17","1""#),
            row("1711444503.18", r#","","","1711444502.17","2""#),
            row("1711444503.180", r#","","","1711444503.180","3""#),
            row("1711444600.19", r#","","","1711444502.17","4""#),
        ];
        let whole = [leg("1711444502.17", "q-400.wav"), leg("1711444503.18", ""), leg("1711444600.19", "")];
        for id in ["1711444502.17", "1711444503.18", "1711444600.19"] {
            assert_eq!(found(&text.concat(), id).unwrap(), whole, "{id}");
        }
        assert_eq!(found(&text.concat(), "1711444503.180").unwrap().len(), 1);
        assert!(found(&text.concat(), "1711444999.1").unwrap().is_empty());
    }

    #[test]
    fn a_file_without_userfield_is_read_and_one_without_links_is_named() {
        let text = row("1711444502.17", r#","","1711444502.17","1""#);
        assert_eq!(found(&text, "1711444502.17").unwrap(), [leg("1711444502.17", "")]);
        let old = row("1711444502.17", "");
        let error = with_advice(&found(&old, "1711444502.17").unwrap_err());
        assert!(error.contains("newcdrcolumns=yes"), "{error}");
        assert!(found("1711444502.17 is nonsense\n\"", "1711444502.17").unwrap().is_empty());
        let gone = legs_in_csv(Path::new("/nowhere"), &[String::new(), String::new()]).unwrap_err();
        assert!(gone.to_string().contains("/nowhere"));
    }
}
