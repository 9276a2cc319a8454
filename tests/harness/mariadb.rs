//! A MariaDB server with the call records of a PBX, in a table as FreePBX makes it.

use std::{fs, path::PathBuf};

use sqlx::{Connection, Executor, MySqlConnection};
use tempfile::TempDir;

use crate::{
    address::free_address,
    authority::Authority,
    process::{Process, installed},
};

/// The user that may read the call records.
pub const USER: &str = "recordings";
/// The password of that user.
pub const PASSWORD: &str = "p@ss/word";

/// The table, with the columns that are used and some that are not.
const TABLE: &str = "CREATE TABLE cdr (
    calldate datetime NOT NULL DEFAULT '2024-03-26 10:15:02',
    src varchar(80) NOT NULL DEFAULT '',
    dst varchar(80) NOT NULL DEFAULT '',
    billsec int(11) NOT NULL DEFAULT 0,
    disposition varchar(45) NOT NULL DEFAULT 'ANSWERED',
    uniqueid varchar(32) NOT NULL DEFAULT '',
    recordingfile varchar(255) NOT NULL DEFAULT '',
    linkedid varchar(32) NOT NULL DEFAULT '',
    sequence int(11) NOT NULL DEFAULT 0,
    KEY uniqueid (uniqueid), KEY linkedid (linkedid))";

/// A database server.
#[derive(Debug)]
pub struct MariaDb {
    process: Process,
    port: u16,
    socket: PathBuf,
    dir: TempDir,
}

impl MariaDb {
    /// Starts a server. `None`, recorded as skipped, if MariaDB is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(None).await
    }

    /// Starts a server with TLS. The authority signs its certificate for the host. `None` as for [`MariaDb::start`].
    pub async fn start_tls(authority: &Authority, host: &str) -> Option<Self> {
        Self::start_with(Some((authority, host))).await
    }

    async fn start_with(tls: Option<(&Authority, &str)>) -> Option<Self> {
        if !installed("mariadbd") || !installed("mariadb-install-db") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        let install = tokio::process::Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--user=root",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--datadir={}", data.display()))
            // Servers with the same directory for temporary tables would remove each other's tables.
            .env("TMPDIR", dir.path())
            .output();
        let installed = install.await.expect("mariadb-install-db starts");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        let init = dir.path().join("init.sql");
        // One statement per line.
        let sql = format!(
            "CREATE DATABASE asteriskcdrdb;\nUSE asteriskcdrdb;\n{};\n\
             CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT SELECT ON asteriskcdrdb.cdr TO '{USER}'@'%';\n",
            TABLE.replace('\n', " ")
        );
        fs::write(&init, sql).expect("a file");
        let (port, socket) = (free_address().port(), dir.path().join("socket"));
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            "--user=root".to_owned(),
            format!("--datadir={}", data.display()),
            format!("--socket={}", socket.display()),
            format!("--tmpdir={}", dir.path().display()),
            format!("--pid-file={}", dir.path().join("pid").display()),
            format!("--init-file={}", init.display()),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
        ];
        match tls {
            Some((authority, host)) => {
                let made = authority.sign(dir.path(), host);
                arguments.push(format!("--ssl-cert={}", made.certificate.display()));
                arguments.push(format!("--ssl-key={}", made.key.display()));
            }
            None => arguments.push("--skip-ssl".to_owned()),
        }
        let process = Process::start_program("mariadbd".as_ref(), &arguments, &[]);
        process.wait_for("ready for connections").await;
        Some(Self { process, port, socket, dir })
    }

    /// The address of the database for the agent.
    pub fn url(&self) -> String {
        format!("mysql://{USER}@127.0.0.1:{}/asteriskcdrdb", self.port)
    }

    /// The same address with a host name, and with the password in it.
    pub fn url_at(&self, host: &str) -> String {
        format!("mysql://{USER}:p%40ss%2Fword@{host}:{}/asteriskcdrdb", self.port)
    }

    /// A file with the password.
    pub fn password_file(&self) -> PathBuf {
        let path = self.dir.path().join("password");
        fs::write(&path, PASSWORD).expect("a file");
        path
    }

    /// Runs a statement as root.
    pub async fn run(&self, sql: &str) {
        let options = sqlx::mysql::MySqlConnectOptions::new()
            .socket(&self.socket)
            .username("root")
            .database("asteriskcdrdb");
        let mut connection = MySqlConnection::connect_with(&options).await.expect("the database answers");
        connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.expect("the statement is right");
    }

    /// Inserts one leg of a call.
    pub async fn leg(&self, id: &str, linked: &str, recording: &str) {
        let sql = format!(
            "INSERT INTO cdr (uniqueid, linkedid, recordingfile) VALUES ('{id}', '{linked}', '{recording}')"
        );
        self.run(&sql).await;
    }

    /// Pauses the server so that it does not respond, or lets it continue.
    pub fn pause(&self, paused: bool) {
        self.process.signal(if paused { "STOP" } else { "CONT" });
    }
}
