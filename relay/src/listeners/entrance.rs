//! What every request to the admin listener passes first: is it for this host, who asks, and is the way private?

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use audiovault_protocol::problem::Problem;
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use http::StatusCode;
use ipnet::IpNet;

use crate::{client, host, ids::new_id};

/// Pages by which machines look after the relay. They do so by address, and learn nothing that is worth a name.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Judges requests to the admin listener.
#[derive(Debug)]
pub(super) struct Entrance {
    /// The only name beneath which the pages are served.
    pub(super) host: Option<String>,
    pub(super) trusted_proxies: Vec<IpNet>,
}

impl Entrance {
    fn is_for(&self, request: &Request) -> bool {
        let Some(wanted) = &self.host else { return true };
        let Some(host) = host::of(request.uri(), request.headers()) else { return false };
        let by_address = || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        host == *wanted || (HEALTH.contains(&request.uri().path()) && by_address())
    }
}

/// Turns away what is for another host (a page elsewhere that points its own name here, or a mistake) and lets the
/// others carry who the client is.
pub(super) async fn enter(
    State(entrance): State<Arc<Entrance>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    if !entrance.is_for(&request) {
        let detail = "this server has no pages for that host name; use the one of --admin-host";
        let problem = Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).for_request(&new_id());
        return problem.into_response().map(Body::from);
    }
    client::identify(&mut request, peer.ip(), &entrance.trusted_proxies);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_for(wanted: Option<&str>, host: &str, path: &str) -> bool {
        let entrance = Entrance { host: wanted.map(str::to_owned), trusted_proxies: Vec::new() };
        entrance.is_for(&Request::builder().uri(path).header("host", host).body(Body::empty()).unwrap())
    }

    #[test]
    fn only_the_name_is_served_and_health_by_address() {
        let name = Some("admin.example.com");
        assert!(is_for(None, "anything", "/"));
        assert!(is_for(name, "Admin.example.com:8443", "/sites/acme"));
        for host in ["evil.example.com", "127.0.0.1:8090", "localhost", ""] {
            assert!(!is_for(name, host, "/"), "{host}");
        }
        for host in ["127.0.0.1:8090", "[::1]:8090", "10.1.2.3"] {
            assert!(is_for(name, host, "/healthz") && is_for(name, host, "/readyz"), "{host}");
            assert!(!is_for(name, host, "/metrics"), "{host}");
        }
        assert!(!is_for(name, "evil.example.com", "/healthz"));
    }
}
