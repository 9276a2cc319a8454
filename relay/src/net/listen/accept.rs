//! What happens to a connection between its acceptance and its first request, below TLS.

use std::{
    future::{Ready, ready},
    io,
    sync::Arc,
};

use audiovault_protocol::{
    admission::{
        connection::{self, BeyondLimit, Metered, Metering},
        gate::Exceeded,
    },
    http::problem::Problem,
};
use axum::{body::Body, response::Response};
use axum_server::accept::Accept;
use http::StatusCode;
use tokio::net::TcpStream;

use super::gate::Gate;
use crate::model::new_id;

/// The `Retry-After` value, in seconds, for a client with too many connections: some will have ended by then.
const CLIENT_RETRY: u32 = 10;
/// The `Retry-After` value, in seconds, if all clients together have too many connections.
const ALL_RETRY: u32 = 5;

/// Checks every connection against the limits, wraps it in a meter and adds the meter to every request.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    pub(super) gate: Arc<Gate>,
    /// Whether the listener uses TLS above this.
    pub(super) tls: bool,
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Metered<TcpStream>;
    type Service = Metering<S, Body>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let beyond = BeyondLimit { refusal: refuse, answered: self.gate.always };
        let opened = stream
            .peer_addr()
            .and_then(|peer| connection::open(stream, self.gate.admit(peer.ip()), self.tls, service, beyond));
        ready(opened)
    }
}

fn refuse(exceeded: Exceeded) -> Response {
    let problem = match exceeded {
        Exceeded::Client => {
            let detail = "too many open connections from your address; close some, or use fewer";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(CLIENT_RETRY)
        }
        Exceeded::All => {
            let detail = "this relay has too many open connections; try again in a moment";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(ALL_RETRY)
        }
    };
    let id = new_id();
    tracing::debug!(request_id = id, ?exceeded, "a connection exceeded a limit");
    problem.for_request(&id).into_response().map(Body::from)
}
