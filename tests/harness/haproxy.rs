//! HAProxy in front of several relays, configured as in docker/haproxy.cfg.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::process::{Process, installed};

/// The source address of its connections to the relays. No client has this address.
pub const SOURCE: &str = "127.0.0.201";

/// A relay behind the load balancer.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// The relay's public address.
    pub public: SocketAddr,
    /// The relay's admin address, which HAProxy asks whether the relay is ready.
    pub admin: SocketAddr,
}

/// A running load balancer.
#[derive(Debug)]
pub struct Haproxy {
    /// The program.
    pub process: Process,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts a load balancer at an address. `None`, recorded as skipped, if HAProxy is not installed.
    pub async fn start(address: SocketAddr, servers: &[Server]) -> Option<Self> {
        if !installed("haproxy") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(&file, config(address, servers)).expect("a file");
        let words = ["-W", "-db", "-f", &file.display().to_string()].map(str::to_owned);
        let path = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        let program = path.into_iter().find(|path| std::path::Path::new(path).exists()).unwrap_or("haproxy");
        let process = Process::start_program(program.as_ref(), &words, &[]);
        process.wait_for("Loading success").await;
        Some(Self { process, _dir: dir })
    }
}

/// The configuration in docker/, with other addresses, and with as many connections as a test may open.
fn config(address: SocketAddr, servers: &[Server]) -> String {
    let text = include_str!("../../docker/haproxy.cfg");
    let others = text.lines().filter(|line| !line.trim_start().starts_with("server "));
    let mut config: String = others.map(|line| format!("{line}\n")).collect();
    config =
        config.replace("bind :8080", &format!("bind {address}")).replace("maxconn 20000", "maxconn 2000");
    for (number, Server { public, admin }) in servers.iter().enumerate() {
        let check = format!("check addr {} port {} source {SOURCE}", admin.ip(), admin.port());
        config += &format!("  server relay{number} {public} {check}\n");
    }
    config
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // SIGKILL would leave its worker process running.
        self.process.end();
    }
}
