//! The limits on connections: the gate of `protocol`, with an exception for trusted proxies; and what happens to a
//! connection between its acceptance and its first request, below TLS.

use std::{
    future::{Ready, ready},
    io,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use audiovault_protocol::admission::{
    connection::{self, BeyondLimit, Metered, Metering},
    gate::{self, Admission, Exceeded},
    throttle::ClientKey,
};
use axum_server::accept::Accept;
use bytes::Bytes;
use http::{Response, StatusCode};
use ipnet::IpNet;
use tokio::net::TcpStream;

use crate::{http_error::HttpError, request_id::new_id};

/// Limits the connections of all listeners that share it.
#[derive(Debug)]
pub struct Gate {
    all: gate::Gate,
    /// Proxies that speak for many clients; the limit per client does not apply to them.
    proxies: Vec<IpNet>,
    /// Paths that are served even on connections over a limit.
    always: &'static [&'static str],
}

impl Gate {
    /// A gate for at most `most` connections in all and `per_client` of each client, except for proxies.
    pub fn new(most: u32, per_client: u32, proxies: Vec<IpNet>) -> Self {
        Self { all: gate::Gate::new(most, per_client), proxies, always: &[] }
    }

    /// Serves these paths even on connections over a limit.
    #[must_use]
    pub fn with_room_for(self, always: &'static [&'static str]) -> Self {
        Self { always, ..self }
    }

    /// The number of open connections.
    pub fn open(&self) -> u32 {
        self.all.open()
    }

    /// Connections that were refused since the start, with or without a response.
    pub fn refused(&self) -> u32 {
        self.all.refused()
    }

    /// Decides about a connection.
    fn admit(&self, peer: IpAddr) -> Admission {
        let peer = peer.to_canonical();
        let proxy = self.proxies.iter().any(|network| network.contains(&peer));
        self.all.admit((!proxy).then(|| ClientKey::from(peer)))
    }
}

/// When a client with too many connections should retry: some will have ended by then.
const CLIENT_RETRY: Duration = Duration::from_secs(10);
/// When to retry if all clients together have too many connections.
const ALL_RETRY: Duration = Duration::from_secs(5);

/// Checks every connection against the limits and wraps it in a meter.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    gate: Arc<Gate>,
}

impl Acceptor {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
        Self { gate: Arc::clone(gate) }
    }

    /// What is answered on connections above a limit.
    pub(super) fn beyond<B: From<Bytes>>(gate: &Gate) -> BeyondLimit<B> {
        BeyondLimit { refusal: refuse, answered: gate.always }
    }
}

impl<S, B> Accept<TcpStream, Metering<S, B>> for Acceptor {
    type Stream = Metered<TcpStream>;
    type Service = Metering<S, B>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: Metering<S, B>) -> Self::Future {
        let admission = self.gate.admit(service.peer().ip());
        ready(connection::open(stream, admission, service))
    }
}

fn refuse<B: From<Bytes>>(exceeded: Exceeded) -> Response<B> {
    let error = match exceeded {
        Exceeded::Client => {
            let detail = "too many open connections from your address; close some, or use fewer";
            HttpError::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(CLIENT_RETRY)
        }
        Exceeded::All => {
            let detail = "too many connections are open here; try again in a moment";
            HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(ALL_RETRY)
        }
    };
    let id = new_id();
    tracing::debug!(request_id = id, ?exceeded, "a connection exceeded a limit");
    error.into_document(&id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_no_limit_of_a_client() {
        let gate = Gate::new(100, 1, vec!["10.0.0.0/8".parse().unwrap()]);
        let knocks = |peer: &str| {
            let peer: IpAddr = peer.parse().unwrap();
            let knocks: Vec<_> = (0..3).map(|_| gate.admit(peer)).collect();
            knocks.iter().filter(|admit| matches!(admit, Admission::Admitted(_))).count()
        };
        assert_eq!((knocks("192.0.2.1"), knocks("10.0.0.1"), knocks("::ffff:10.0.0.1")), (1, 3, 3));
        assert_eq!((gate.open(), gate.refused()), (0, 2));
    }
}
