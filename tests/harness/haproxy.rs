//! HAProxy in front of several relays, set up as the relay's README says.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::process::{Process, installed};

/// From where it asks the relays: an address that no client has.
pub const SOURCE: &str = "127.0.0.201";

/// A relay behind it.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Where the public reaches it.
    pub public: SocketAddr,
    /// Where it tells whether it is ready.
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
    /// Starts one at an address; `None`, noted as skipped, where HAProxy is not installed.
    pub async fn start(address: SocketAddr, servers: &[Server]) -> Option<Self> {
        if !installed("haproxy") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let line = |(number, server): (usize, &Server)| {
            format!(
                "  server relay{number} {} check addr {} port {} source {SOURCE}\n",
                server.public,
                server.admin.ip(),
                server.admin.port()
            )
        };
        let servers: String = servers.iter().enumerate().map(line).collect();
        // The block of relay/README.md, but for the addresses.
        let config = format!(
            "global\n  maxconn 2000\n  log stdout format raw local0 notice\n\
             defaults\n  mode http\n  log global\n  timeout connect 2s\n  timeout client 75s\n  timeout server 75s\n  \
             timeout tunnel 1h\n  timeout check 2s\n  retries 3\n  option redispatch 1\n  \
             retry-on conn-failure empty-response\n  option forwardfor\n\
             frontend public\n  bind {address}\n  \
             http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n  default_backend relays\n\
             backend relays\n  balance leastconn\n  option httpchk GET /readyz\n  \
             default-server inter 300ms fall 2 rise 1\n{servers}"
        );
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("a file");
        let words = ["-W", "-db", "-f", &file.display().to_string()].map(str::to_owned);
        let path = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        let program = path.into_iter().find(|path| std::path::Path::new(path).exists()).unwrap_or("haproxy");
        let process = Process::start_program(program.as_ref(), &words, &[]);
        process.wait_for("Loading success").await;
        Some(Self { process, _dir: dir })
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Killed, it would leave its worker behind.
        self.process.end();
    }
}
