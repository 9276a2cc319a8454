//! Decides which connections `serve` accepts, with the same limits as the relay.

use std::{
    future::{Ready, ready},
    io,
    sync::Arc,
};

use audiovault_protocol::{
    admission::{
        connection::{self, BeyondLimit, Metered, Metering},
        gate::{Exceeded, Gate},
        throttle::ClientKey,
    },
    http::problem::Problem,
};
use axum::{body::Body, response::Response};
use axum_server::accept::Accept;
use http::StatusCode;
use tokio::net::TcpStream;

/// Seconds after which a client with too many connections should retry: some will have ended by then.
const CLIENT_RETRY: u32 = 10;
/// Seconds after which to retry if all clients together have too many connections.
const ALL_RETRY: u32 = 5;

/// Checks every new connection, and ends it if it sends no request in time.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    pub(super) gate: Arc<Gate>,
    /// Whether the listener uses TLS on these connections.
    pub(super) tls: bool,
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Metered<TcpStream>;
    type Service = Metering<S, Body>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let opened = stream.peer_addr().and_then(|peer| {
            let admit = self.gate.admit(Some(ClientKey::from(peer.ip())));
            connection::open(stream, admit, self.tls, service, BeyondLimit { refusal: refuse, answered: &[] })
        });
        ready(opened)
    }
}

fn refuse(exceeded: Exceeded) -> Response {
    let problem = match exceeded {
        Exceeded::Client => {
            let detail = "too many connections from your address are open; close some, or use fewer";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(CLIENT_RETRY)
        }
        Exceeded::All => {
            let detail = "too many connections are open here; try again in a moment";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(ALL_RETRY)
        }
    };
    tracing::debug!(?exceeded, "a connection is above a limit");
    problem.into_response().map(Body::from)
}
