//! The contenders: this project, nginx without a tunnel, and tunnels in front of the same nginx.

use std::{any::Any, net::SocketAddr, path::Path};

use harness::{
    address::free_address,
    agent::{Agent, AgentOptions},
    client::{client_at, first_link, search},
    nginx::Nginx,
    process::Process,
    relay::{Certificate, Relay},
    usage::Processes,
};
use tempfile::TempDir;

use crate::compare::{client::Target, files::Size};

/// The role of a contender in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// This project.
    Ours,
    /// No other tunnel: none at all, or this project with another configuration.
    Reference,
    /// Another tunnel.
    Peer {
        /// Whether the traffic between its two programs is encrypted.
        encrypted: bool,
    },
}

/// A running contender.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// The programs of the tunnel.
    pub(crate) programs: Processes,
    /// The web server that a tunnel needs behind it, if it needs one.
    pub(crate) origin: Processes,
    address: SocketAddr,
    /// Signed links by size; empty if the address is the name of the file.
    links: Vec<Vec<String>>,
    _kept: Kept,
}

/// What must live as long as a contender: processes and directories.
type Kept = Vec<Box<dyn Any + Send + Sync>>;

impl Contender {
    /// A tunnel in front of the origin, with this public address.
    pub(crate) fn peer(
        name: &'static str,
        encrypted: bool,
        address: SocketAddr,
        processes: Vec<Process>,
        dir: TempDir,
    ) -> Self {
        let programs = Processes(processes.iter().map(Process::id).collect());
        let kept: Kept = vec![Box::new(processes), Box::new(dir)];
        let role = Role::Peer { encrypted };
        Self { name, role, programs, origin: Processes::default(), address, links: Vec::new(), _kept: kept }
    }

    /// The request for a file.
    pub(crate) fn target(&self, size: Size, n: usize) -> Target {
        let n = n % size.count();
        let kind = Size::ALL.iter().position(|other| *other == size).unwrap_or_default();
        let link = self.links.get(kind).and_then(|links| links.get(n)).cloned();
        let path = link.unwrap_or_else(|| format!("/{}", size.name(n)));
        Target { address: self.address, path, bytes: size.bytes() }
    }
}

/// nginx as most sites would configure it, and the web server behind the other contenders.
pub(crate) async fn direct(files: &Path) -> Option<Contender> {
    let http =
        "sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h;
                types { audio/wav wav; }";
    let nginx = Nginx::start_beside(&format!("root {};", files.display()), http).await?;
    Some(reference("nginx direct", nginx, Processes::default()))
}

/// nginx as a proxy in front of nginx.
pub(crate) async fn proxied(origin: &Contender) -> Option<Contender> {
    let http = format!(
        "upstream origin {{ server {}; keepalive 64; keepalive_requests 1000000000; }}
         keepalive_requests 1000000000; keepalive_timeout 1h;",
        origin.address
    );
    let location = "proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";";
    let nginx = Nginx::start_beside(location, &http).await?;
    Some(reference("nginx as proxy in front", nginx, origin.programs.clone()))
}

fn reference(name: &'static str, nginx: Nginx, origin: Processes) -> Contender {
    let (address, programs) = (nginx.address, Processes(vec![nginx.process.id()]));
    let kept: Kept = vec![Box::new(nginx)];
    Contender { name, role: Role::Reference, programs, origin, address, links: Vec::new(), _kept: kept }
}

/// Relay and agent over `wss`, with this many tunnels and with the audit log; downloads use the links from searches.
pub(crate) async fn ours(files: &Path, tunnels: u16) -> Contender {
    let (dir, tls) = (tempfile::tempdir().unwrap(), free_address());
    let certificate = Certificate::make(dir.path(), &["localhost", &tls.ip().to_string()]);
    let [cert, key] = [&certificate.certificate, &certificate.key].map(|path| path.display().to_string());
    let tls_bind = tls.to_string();
    // Access logs are off everywhere; the audit log is on.
    let more = [
        "--tls-bind",
        &tls_bind,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--log-level",
        "audiovault_relay::public=warn,info",
    ];
    let relay = Relay::start_with(&more, false).await;
    let site = relay.add_site("acme", &[]).await;
    let options = AgentOptions::new(files)
        .through(format!("wss://{tls}"))
        .with(&["--cacert", &certificate.authority.display().to_string()])
        .with(&["--log-level", "audiovault_agent::http::envelope=warn,info"])
        .with(&["--connections", &tunnels.to_string()]);
    let agent = Agent::start(&relay, &site, options).await;
    let (client, mut links) = (client_at(2), Vec::new());
    for size in Size::ALL {
        let mut of_size = Vec::new();
        for n in 0..size.count() {
            let link = first_link(&search(&client, &site, &size.call(n), &[]).await);
            of_size.push(link.strip_prefix(&relay.url()).expect("a link of this relay").to_owned());
        }
        links.push(of_size);
    }
    let programs = Processes(vec![relay.process().id(), agent.process.id()]);
    let address = relay.address;
    let kept: Kept = vec![Box::new(agent), Box::new(relay), Box::new(dir)];
    let (name, role) = match tunnels {
        1 => ("AudioVault Tunnel", Role::Ours),
        _ => ("AudioVault Tunnel, `--connections 2`", Role::Reference),
    };
    Contender { name, role, programs, origin: Processes::default(), address, links, _kept: kept }
}
