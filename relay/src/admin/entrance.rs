//! The first check of every request to the admin listener: is the request for this host, and who is the client?

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use audiovault_common::request_id::new_id;
use audiovault_protocol::http::problem::Problem;
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use http::StatusCode;
use ipnet::IpNet;

use crate::net::{client, host};

/// Paths that load balancers and monitoring request. They are allowed with any host name, since the response is no
/// secret.
pub(crate) const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Checks requests to the admin listener.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// The host names under which the pages are served, besides `localhost`.
    pub(crate) hosts: Vec<String>,
    pub(crate) trusted_proxies: Vec<IpNet>,
}

impl Entrance {
    /// Whether the host of a request is this one. A page of another web site can point its own host name at this
    /// address (DNS rebinding) and would then have the same origin. It can do so neither with an IP address nor with
    /// `localhost`.
    fn is_for(&self, request: &Request) -> bool {
        if HEALTH.contains(&request.uri().path()) {
            return true;
        }
        let Some(host) = host::of(request.uri(), request.headers()) else { return false };
        if host == "localhost" || host.ends_with(".localhost") || self.hosts.contains(&host) {
            return true;
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        address.is_ok_and(|address| self.hosts.is_empty() || address.to_canonical().is_loopback())
    }
}

/// Refuses requests for another host (DNS rebinding, or a mistake). Passes the others on and adds who the client is.
pub(crate) async fn enter(
    State(entrance): State<Arc<Entrance>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    if !entrance.is_for(&request) {
        let detail =
            "this listener does not serve that host name; use localhost, or a host name of --admin-host";
        let problem = Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).for_request(&new_id());
        return problem.into_response().map(Body::from);
    }
    client::identify(&mut request, peer.ip(), &entrance.trusted_proxies);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_for(hosts: &[&str], host: &str, path: &str) -> bool {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let entrance = Entrance { hosts, trusted_proxies: Vec::new() };
        entrance.is_for(&Request::builder().uri(path).header("host", host).body(Body::empty()).unwrap())
    }

    #[test]
    fn pages_are_served_under_names_that_are_this_host() {
        let here =
            ["localhost", "localhost:8090", "a.localhost", "127.0.0.1:8090", "127.9.9.9", "[::1]:8090"];
        let far = ["10.1.2.3", "10.1.2.3:8090", "[2001:db8::1]:8090"];
        let foreign =
            ["evil.example.com", "localhost.example.com", "evillocalhost", "127.0.0.1.example.com", ""];
        let named = ["admin.example.com", "relay1"];
        for host in here {
            assert!(is_for(&[], host, "/") && is_for(&named, host, "/"), "{host}");
        }
        for host in far {
            assert!(is_for(&[], host, "/") && !is_for(&named, host, "/"), "{host}");
        }
        for host in foreign {
            assert!(!is_for(&[], host, "/") && !is_for(&named, host, "/metrics"), "{host}");
        }
        for host in ["Admin.example.com:8443", "admin.example.com.", "relay1:8090"] {
            assert!(is_for(&named, host, "/sites/acme") && !is_for(&[], host, "/sites/acme"), "{host}");
        }
    }

    #[test]
    fn health_is_reported_under_any_name() {
        for host in ["evil.example.com", "10.1.2.3", "relay1:8090", ""] {
            assert!(
                is_for(&["admin.example.com"], host, "/healthz") && is_for(&[], host, "/readyz"),
                "{host}"
            );
        }
    }
}
