//! Proxies between an agent and its relay. They require a user and a password.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    address::free_address,
    names::Names,
    process::{PATIENCE, Process, installed},
};

/// The user and the password of the proxies, in the format of `--proxy-credentials-file`.
pub const CREDENTIALS: &str = "maria:s3cr3t";

/// A running proxy.
#[derive(Debug)]
pub struct ProxyServer {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// The program. It logs every connection.
    pub process: Process,
    _dir: TempDir,
}

impl ProxyServer {
    /// Starts an HTTP proxy that resolves names as `names` says. `None`, recorded as skipped, if tinyproxy is not
    /// installed.
    pub async fn http(names: Option<&Names>) -> Option<Self> {
        if !installed("tinyproxy") {
            return None;
        }
        let (dir, address) = (tempfile::tempdir().expect("a temporary directory"), free_address());
        let (user, password) = CREDENTIALS.split_once(':').expect("user and password");
        let config = format!(
            "Listen {}\nPort {}\nTimeout 600\nLogLevel Info\nBasicAuth {user} {password}\n",
            address.ip(),
            address.port()
        );
        let file = dir.path().join("tinyproxy.conf");
        std::fs::write(&file, config).expect("a file");
        let arguments = ["-d", "-c", &file.display().to_string()].map(str::to_owned);
        let process = start("tinyproxy", &arguments, names);
        process.wait_for("Accepting connections").await;
        Some(Self { address, process, _dir: dir })
    }

    /// Starts a SOCKS5 proxy that resolves names as `names` says. `None`, recorded as skipped, if microsocks is not
    /// installed.
    pub async fn socks(names: Option<&Names>) -> Option<Self> {
        if !installed("microsocks") {
            return None;
        }
        let (dir, address) = (tempfile::tempdir().expect("a temporary directory"), free_address());
        let (user, password) = CREDENTIALS.split_once(':').expect("user and password");
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let arguments = ["-i", &ip, "-p", &port, "-u", user, "-P", password].map(str::to_owned);
        let process = start("microsocks", &arguments, names);
        // It logs nothing before its first client, so the test waits until the port accepts.
        let listens = async {
            while TcpStream::connect(address).is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("the proxy listens");
        Some(Self { address, process, _dir: dir })
    }
}

fn start(program: &str, arguments: &[String], names: Option<&Names>) -> Process {
    match names {
        None => Process::start_program(program.as_ref(), arguments, &[]),
        Some(names) => names.start(Path::new(program), arguments, &[]),
    }
}
