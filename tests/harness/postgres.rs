//! A PostgreSQL server for one test.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    address::free_address,
    authority::Authority,
    process::{Process, skip},
    secrets,
};

/// The user of the relays.
const USER: &str = "relay";
/// The password of that user.
const PASSWORD: &str = "c0rrect-p0stgres-p@ss";

/// An address of this machine that does not look like a loopback address, so the rules for databases on other machines
/// apply to it.
pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A server with an empty database.
#[derive(Debug)]
pub struct Postgres {
    /// The program; `None` while it is stopped.
    pub process: Option<Process>,
    words: Vec<String>,
    address: SocketAddr,
    dir: TempDir,
}

impl Postgres {
    /// Starts a server. `None`, recorded as skipped, if PostgreSQL is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_at(free_address(), None).await
    }

    /// Starts a server at [`FAR`], with a certificate of an authority or without TLS. `None` as for
    /// [`Postgres::start`].
    pub async fn start_far(authority: Option<&Authority>) -> Option<Self> {
        let here = SocketAddr::new(FAR, 0);
        let port = TcpListener::bind(here).expect("a port").local_addr().expect("an address").port();
        Self::start_at(SocketAddr::new(FAR, port), authority).await
    }

    async fn start_at(address: SocketAddr, authority: Option<&Authority>) -> Option<Self> {
        let Some(programs) = programs() else {
            skip("tests with PostgreSQL: it is not installed; tests/run installs it");
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("password");
        std::fs::write(&file, PASSWORD).expect("a file");
        secrets::remember(PASSWORD);
        let data = dir.path().join("data").display().to_string();
        let file = file.display().to_string();
        let mut tls = Vec::new();
        if let Some(authority) = authority {
            let made = authority.sign(dir.path(), &address.ip().to_string());
            let only_its_own = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&made.key, only_its_own).expect("a file");
            let set = ["ssl_cert_file", "ssl_key_file"].into_iter().zip([made.certificate, made.key]);
            tls = set.map(|(name, file)| format!("{name}={}", file.display())).collect();
            tls.push("ssl=on".to_owned());
        }
        let starter = as_unprivileged_user(dir.path());
        let initdb = programs.join("initdb").display().to_string();
        let init =
            ["-D", &data, "-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--pwfile", &file];
        let words = [&starter[..], &[initdb], &init.map(str::to_owned), &["--auth=scram-sha-256".to_owned()]]
            .concat();
        let made = Command::new(&words[0]).args(&words[1..]).output().await.expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let postgres = programs.join("postgres").display().to_string();
        let here = dir.path().display().to_string();
        // Data of a test need not survive a crash of the machine.
        let listen = format!("listen_addresses={}", address.ip());
        let set = [listen.as_str(), "fsync=off", "max_connections=200"].into_iter();
        let set: Vec<_> = set.chain(tls.iter().map(String::as_str)).flat_map(|set| ["-c", set]).collect();
        let port = address.port().to_string();
        let flags = [&["-D", &data, "-k", &here, "-p", &port][..], &set].concat();
        let words =
            [&starter[..], &[postgres], &flags.iter().map(ToString::to_string).collect::<Vec<_>>()].concat();
        let mut server = Self { process: None, words, address, dir };
        server.run().await;
        server.make("audiovault").await;
        Some(server)
    }

    /// Starts the server again after [`Postgres::stop`].
    pub async fn run(&mut self) {
        let process = Process::start_program(self.words[0].as_ref(), &self.words[1..], &[]);
        process.wait_for("ready to accept connections").await;
        self.process = Some(process);
    }

    /// Stops the server at once. Connections are cut, but committed data is kept.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("INT");
            process.wait().await;
        }
    }

    /// The address of the database for the relays, without the password.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@{}/audiovault", self.address)
    }

    /// The environment variables with which relays find the password.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![("PGPASSWORD", PASSWORD.to_owned())]
    }

    /// The server's data directory.
    pub fn directory(&self) -> &Path {
        self.dir.path()
    }

    /// A connection to the database, separate from those of the relays.
    pub async fn connection(&self) -> PgConnection {
        self.connect("audiovault").await
    }

    async fn connect(&self, database: &str) -> PgConnection {
        let host = self.address.ip().to_string();
        let options =
            PgConnectOptions::new().host(&host).port(self.address.port()).username(USER).password(PASSWORD);
        PgConnection::connect_with(&options.database(database)).await.expect("the server answers")
    }

    async fn make(&self, database: &str) {
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
        self.connect("postgres").await.execute(statement).await.expect("a database");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGKILL would leave its shared memory behind.
        if let Some(process) = &mut self.process {
            process.signal("INT");
            process.end();
        }
    }
}

/// The directory in which Debian installs the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let versions = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    versions.filter(|programs| programs.join("postgres").exists()).max()
}

/// The words to put before a command line so that its program does not run as root, which PostgreSQL refuses.
fn as_unprivileged_user(dir: &Path) -> Vec<String> {
    if !rustix::process::getuid().is_root() {
        return Vec::new();
    }
    let user = id("-u");
    let group = id("-g");
    chown(dir, Some(user), Some(group)).expect("root may give it away");
    for entry in std::fs::read_dir(dir).expect("a directory") {
        chown(entry.expect("a file").path(), Some(user), Some(group)).expect("root may give it away");
    }
    let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
    ["setpriv", &user, &group, "--clear-groups", "--"].map(str::to_owned).to_vec()
}

/// A numeric id of the user that the package creates.
fn id(which: &str) -> u32 {
    let printed = std::process::Command::new("id").args([which, "postgres"]).output().expect("id");
    String::from_utf8_lossy(&printed.stdout).trim().parse().expect("Debian's package makes the user postgres")
}
