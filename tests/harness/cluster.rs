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

/// By which the relays know each other.
pub const KEY: &str = "5f1c7d1e0b8a4c6f9e2d3a4b5c6d7e8f";

/// Where a relay is for the others.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where they reach it.
    pub url: String,
    /// Where it listens for them, if elsewhere.
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
    /// Where all of them are reached.
    pub address: SocketAddr,
    /// The relays. Dropped before what they stand on.
    pub relays: Vec<Relay>,
    /// Where each relay is reached by the others.
    pub nodes: Vec<String>,
    /// What stands in front of them.
    pub balancer: Haproxy,
    /// Where they keep what they know; a story may take it.
    pub server: Option<Postgres>,
}

impl Cluster {
    /// Starts so many relays; `None`, noted as skipped, where PostgreSQL or HAProxy is not installed.
    pub async fn start(relays: usize) -> Option<Self> {
        Self::start_with(relays, &[]).await
    }

    /// Starts so many relays with further arguments.
    pub async fn start_with(relays: usize, extra: &[&str]) -> Option<Self> {
        let nodes = (0..relays).map(|_| Place::at(format!("http://{}", free_address())));
        Self::start_at(nodes.collect(), extra).await
    }

    /// Starts relays that are reached by each other at one address and listen at another.
    pub async fn start_behind(places: Vec<Place>) -> Option<Self> {
        Self::start_at(places, &[]).await
    }

    /// Starts so many relays with TLS between them, by a certificate that is made in a directory and is that of all of them.
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

    /// What agents take as `--relay`: the load balancer.
    pub fn tunnel_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The site as one relay alone serves it.
    pub fn at(&self, relay: usize, site: &Site) -> Site {
        Site { search_url: self.link_at(relay, &site.search_url), ..site.clone() }
    }

    /// An address of the cluster as one relay alone serves it.
    pub fn link_at(&self, relay: usize, link: &str) -> String {
        link.replace(&self.address.to_string(), &self.relays[relay].address.to_string())
    }

    /// Which relay holds the first tunnel of a site, as any of them that runs knows.
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
