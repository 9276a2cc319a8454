//! The contenders: this project, nginx and the classic AudioVault without a tunnel, and other tunnels in front of these
//! two.

use std::{any::Any, net::SocketAddr, path::Path};

use harness::{
    address::free_address,
    agent::secret,
    nginx::Nginx,
    process::{PATIENCE, Process},
    usage::Processes,
};

use crate::{
    client::{SearchPlace, Target},
    compare::{figures::Used, files::Size},
    pair::{Build, Pair, PairOptions, offers, start, words},
    searched,
};

/// The search token of the classic AudioVault.
const TOKEN: &str = "search-token-of-the-comparison";

/// The role of a contender in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// This project, in the build that is compared with the aims.
    Ours,
    /// This project in another build.
    OtherBuild,
    /// This project with its default log.
    DefaultLog,
    /// No other tunnel: none at all, or this project with another configuration.
    Reference,
    /// Another tunnel in front of nginx.
    Peer {
        /// Whether the traffic between its two programs is encrypted.
        encrypted: bool,
    },
    /// Another tunnel in front of the classic AudioVault: what a user can have instead of this project.
    ServeBehind {
        /// Whether the traffic between its two programs is encrypted.
        encrypted: bool,
    },
}

/// A running contender.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) programs: Used<Processes>,
    address: SocketAddr,
    /// Signed links by size; empty if the address is the name of the file.
    links: Vec<Vec<String>>,
    /// Where to search; `None` if it only passes on files.
    pub(crate) search: Option<SearchPlace>,
    _kept: Kept,
}

/// What must live as long as a contender: processes and directories.
pub(crate) type Kept = Vec<Box<dyn Any + Send + Sync>>;

impl Contender {
    /// A tunnel in front of another contender, with this public address. Its links come from searches through it, if
    /// the other one has a search.
    pub(crate) async fn in_front(
        name: String,
        role: Role,
        address: SocketAddr,
        programs: Used<Processes>,
        behind: &Self,
        kept: Kept,
    ) -> Self {
        let search = behind.search.as_ref().map(|search| SearchPlace { address, ..search.clone() });
        let links = links(search.as_ref()).await;
        Self { name, role, programs, address, links, search, _kept: kept }
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

/// The links to all files, from searches.
async fn links(place: Option<&SearchPlace>) -> Vec<Vec<String>> {
    let Some(place) = place else { return Vec::new() };
    let mut links = Vec::new();
    for size in Size::ALL {
        let mut of_size = Vec::new();
        for n in 0..size.count() {
            of_size.push(place.link(&size.call(n)).await.expect("a link from a search"));
        }
        links.push(of_size);
    }
    links
}

/// nginx as most sites would configure it, and the web server behind the other contenders.
pub(crate) async fn direct(files: &Path) -> Option<Contender> {
    let http =
        "sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 1h;
                types { audio/wav wav; }";
    let nginx = Nginx::start_beside(&format!("root {};", files.display()), http).await?;
    Some(reference(DIRECT, nginx, Processes::default()))
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
    Some(reference(PROXIED, nginx, origin.programs.server.clone()))
}

pub(crate) const DIRECT: &str = "nginx direct";
pub(crate) const PROXIED: &str = "nginx as proxy in front";
pub(crate) const SERVE: &str = "`serve` direct";

fn reference(name: &str, nginx: Nginx, origin: Processes) -> Contender {
    let server = Processes(vec![nginx.process.id()]);
    Contender {
        name: name.to_owned(),
        role: Role::Reference,
        programs: Used { server, client: Processes::default(), origin },
        address: nginx.address,
        links: Vec::new(),
        search: None,
        _kept: vec![Box::new(nginx)],
    }
}

/// The classic AudioVault without a tunnel. It has neither a relay's audit log nor limits for each client, because all
/// clients have the address of the tunnel.
pub(crate) async fn serve(build: &Build, files: &Path) -> Contender {
    let (dir, address) = (tempfile::tempdir().unwrap(), free_address());
    let arguments = words(&[
        "serve",
        "--bind-to",
        &address.to_string(),
        "--public-url",
        &format!("http://{address}"),
        "--token-file",
        &secret(dir.path(), "search.token", TOKEN),
        "--max-client-connections",
        "1024",
        "--log-level",
        "warn",
    ]);
    let arguments = [arguments, searched::paths(files).into()].concat();
    let process = start(&[], &build.agent, arguments, &[], &dir.path().join("serve.log"), &[]);
    offers(address, PATIENCE).await.expect("the classic AudioVault accepts connections");
    let place = SearchPlace { address, path: "/search".to_owned(), token: TOKEN.to_owned() };
    Contender {
        name: SERVE.to_owned(),
        role: Role::Reference,
        programs: programs(&process, None),
        address,
        links: links(Some(&place)).await,
        search: Some(place),
        _kept: vec![Box::new(process), Box::new(dir)],
    }
}

/// Relay and agent over `wss`, with the audit log; downloads use the links from searches.
pub(crate) async fn ours(build: &Build, files: &Path, variant: Variant, role: Role) -> Contender {
    let options = PairOptions {
        tunnels: if variant == Variant::TwoTunnels { 2 } else { 1 },
        default_log: variant == Variant::DefaultLog,
        ..PairOptions::new(files)
    };
    let pair = Pair::start(build, &options).await;
    Contender {
        name: name(build, variant),
        role,
        programs: programs(&pair.relay, Some(&pair.agent)),
        address: pair.place.address,
        links: links(Some(&pair.place)).await,
        search: Some(pair.place.clone()),
        _kept: vec![Box::new(pair)],
    }
}

/// A configuration of this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Only warnings in the log, as for all other contenders.
    Quiet,
    /// The default log.
    DefaultLog,
    /// Two tunnels of the agent.
    TwoTunnels,
}

/// The name of this project in a table.
pub(crate) fn name(build: &Build, variant: Variant) -> String {
    let variant = match variant {
        Variant::Quiet => "",
        Variant::DefaultLog => ", default log",
        Variant::TwoTunnels => ", `--connections 2`",
    };
    let build = build.name.as_ref().map(|name| format!(", `{name}`")).unwrap_or_default();
    format!("AudioVault Tunnel{build}{variant}")
}

/// The programs of a contender without an origin.
pub(crate) fn programs(server: &Process, client: Option<&Process>) -> Used<Processes> {
    Used {
        server: Processes(vec![server.id()]),
        client: Processes(client.into_iter().map(Process::id).collect()),
        origin: Processes::default(),
    }
}
