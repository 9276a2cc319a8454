//! Several relays behind a load balancer, on one PostgreSQL server.

use std::{net::SocketAddr, path::Path};

use reqwest::Client;

use crate::{
    address::free_address,
    certificate::Certificate,
    haproxy::{Haproxy, SOURCE, Server},
    postgres::Postgres,
    relay::{Relay, Site},
    secrets,
};

/// The secret that the relays share.
pub const KEY: &str = "5f1c7d1e0b8a4c6f9e2d3a4b5c6d7e8f";

/// The addresses of a relay for its peer relays.
#[derive(Debug, Clone)]
pub struct Place {
    /// The address at which peer relays reach it.
    pub url: String,
    /// The address on which it listens for peer relays, if it is another one.
    pub bind: Option<SocketAddr>,
}

impl Place {
    fn at(url: String) -> Self {
        Self { url, bind: None }
    }
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The public address of all relays: the load balancer's.
    pub address: SocketAddr,
    /// The relays. This field comes before those that the relays need, so it is dropped first.
    pub relays: Vec<Relay>,
    /// The address of each relay for its peer relays.
    pub nodes: Vec<String>,
    /// The load balancer in front of the relays.
    pub balancer: Haproxy,
    /// The database server of the relays. A test may take it away.
    pub server: Option<Postgres>,
}

impl Cluster {
    /// Starts this many relays. `None`, recorded as skipped, if PostgreSQL or HAProxy is not installed.
    pub async fn start(relays: usize) -> Option<Self> {
        Self::start_with(relays, &[]).await
    }

    /// Starts this many relays with further arguments.
    pub async fn start_with(relays: usize, extra: &[&str]) -> Option<Self> {
        let nodes = (0..relays).map(|_| Place::at(format!("http://{}", free_address())));
        Self::start_at(nodes.collect(), extra).await
    }

    /// Starts relays that peer relays reach at one address and that listen on another.
    pub async fn start_behind(places: Vec<Place>) -> Option<Self> {
        Self::start_at(places, &[]).await
    }

    /// Starts this many relays with TLS between them. They share one certificate, which is made in a directory.
    pub async fn start_with_tls(relays: usize, dir: &Path) -> Option<Self> {
        let nodes: Vec<SocketAddr> = (0..relays).map(|_| free_address()).collect();
        let names: Vec<String> = nodes.iter().map(|node| node.ip().to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let made = Certificate::make(dir, &names);
        let [certificate, key, authority] = [&made.certificate, &made.key, &made.authority]
            .map(|file| file.to_str().expect("a path as text"));
        let files = ["--node-tls-cert", certificate, "--node-tls-key", key, "--node-tls-ca", authority];
        Self::start_at(nodes.iter().map(|node| Place::at(format!("https://{node}"))).collect(), &files).await
    }

    async fn start_at(places: Vec<Place>, extra: &[&str]) -> Option<Self> {
        let server = Postgres::start().await?;
        secrets::remember(KEY);
        let address = free_address();
        let (mut started, mut servers) = (Vec::new(), Vec::new());
        for Place { url, bind } in &places {
            let admin = free_address();
            let admin_bind = admin.to_string();
            let node_bind = bind.map(|bind| bind.to_string());
            let mut place = vec!["--admin-bind", &admin_bind, "--node-url", url, "--trusted-proxy", SOURCE];
            place.extend(node_bind.iter().flat_map(|bind| ["--node-bind", bind]));
            let relay = Relay::start_in_cluster(
                &server,
                format!("http://{address}"),
                KEY,
                &[&place[..], extra].concat(),
            )
            .await;
            servers.push(Server { public: relay.address, admin });
            started.push(relay);
        }
        let balancer = Haproxy::start(address, &servers).await?;
        let nodes = places.into_iter().map(|place| place.url).collect();
        Some(Self { address, relays: started, nodes, balancer, server: Some(server) })
    }

    /// The value of the agents' `--relay`: the load balancer's address.
    pub fn tunnel_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The site with the addresses of one relay instead of the cluster.
    pub fn at(&self, relay: usize, site: &Site) -> Site {
        Site { search_url: self.link_at(relay, &site.search_url), ..site.clone() }
    }

    /// A link of the cluster with the address of one relay.
    pub fn link_at(&self, relay: usize, link: &str) -> String {
        link.replace(&self.address.to_string(), &self.relays[relay].address.to_string())
    }

    /// The relay that holds the first tunnel of a site, as any running relay knows it.
    pub async fn holder(&self, site: &str) -> usize {
        let asked = self.relays.iter().find(|relay| relay.process.is_some()).expect("a relay runs");
        let status = asked.wait_for_status(site, |status| status["sessions"][0]["relay"].is_string()).await;
        let holder = |node: &String| status["sessions"][0]["relay"] == **node;
        self.nodes.iter().position(holder).expect("one of the relays")
    }
}

/// A client of the cluster, over plain HTTP.
pub fn client() -> Client {
    Client::builder().http1_only().build().expect("a client")
}
