//! Several relays behind a load balancer, on one PostgreSQL server.

use std::net::SocketAddr;

use reqwest::Client;
use serde_json::Value;

use crate::{
    address::free_address,
    haproxy::{Haproxy, SOURCE, Server},
    postgres::Postgres,
    relay::{Relay, Site},
    secrets,
};

/// By which the relays know each other.
const KEY: &str = "5f1c7d1e0b8a4c6f9e2d3a4b5c6d7e8f";

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Where all of them are reached.
    pub address: SocketAddr,
    /// The relays. Dropped before what they stand on.
    pub relays: Vec<Relay>,
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
        let server = Postgres::start().await?;
        secrets::remember(KEY);
        let address = free_address();
        let (mut started, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..relays {
            let (admin, node) = (free_address(), free_address());
            let (admin_bind, node_url) = (admin.to_string(), format!("http://{node}"));
            let place = ["--admin-bind", &admin_bind, "--node-url", &node_url, "--trusted-proxy", SOURCE];
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
        Some(Self { address, relays: started, balancer, server: Some(server) })
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

    /// Which relay holds the only tunnel of a site.
    pub async fn holder(&self, site: &str) -> usize {
        let held = async {
            loop {
                for (number, relay) in
                    self.relays.iter().enumerate().filter(|(_, relay)| relay.process.is_some())
                {
                    if holds(relay, site).await {
                        return number;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::process::PATIENCE, held).await.expect("an agent is connected")
    }
}

/// Whether a relay itself has a tunnel of a site, by its own figures.
async fn holds(relay: &Relay, site: &str) -> bool {
    let (status, text) = relay.admin(&format!("/api/v1/sites/{site}")).await;
    assert_eq!(status, 200, "{text}");
    let site: Value = serde_json::from_str(&text).expect("JSON");
    let here = |session: &Value| session["relay"].is_null() || session["relay"] == "here";
    site["sessions"].as_array().is_some_and(|sessions| sessions.iter().any(here))
}

/// A client of the cluster, over plain HTTP.
pub fn client() -> Client {
    Client::builder().http1_only().build().expect("a client")
}
