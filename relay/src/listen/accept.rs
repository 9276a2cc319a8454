//! What happens to a connection between its acceptance and its first request, beneath TLS.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use audiovault_protocol::problem::Problem;
use axum::{body::Body, response::Response};
use axum_server::accept::Accept;
use http::{HeaderValue, Request, StatusCode, Version, header};
use tokio::net::TcpStream;
use tower::Service;

use super::{
    gate::{Gate, Knock, Over},
    meter::ConnectionMeter,
    metered::Metered,
};
use crate::{ids::new_id, limits::HeldBody};

/// When a client that has too many connections should try again: some will have ended by then.
const CLIENT_RETRY: u32 = 10;
/// When to try again if all clients together have too many.
const ALL_RETRY: u32 = 5;

/// Judges every connection, puts a meter around it and hands the meter to every request.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    pub(super) gate: Arc<Gate>,
    /// Whether the listener speaks TLS above.
    pub(super) tls: bool,
}

impl Acceptor {
    fn open<S>(&self, stream: TcpStream, service: S) -> io::Result<(Metered<TcpStream>, Metering<S>)> {
        let (place, over) = match self.gate.knock(stream.peer_addr()?.ip()) {
            Knock::Welcome(place) => (place, None),
            Knock::Told(place, over) => (place, Some(over)),
            Knock::Refused => return Err(io::Error::other("too many connections are open")),
        };
        // A head must not wait for the acknowledgement of the previous answer.
        stream.set_nodelay(true)?;
        let meter = Arc::new(ConnectionMeter::new(self.tls));
        let stream = Metered::new(stream, Arc::clone(&meter), Some(place));
        Ok((stream, Metering { inner: service, meter, over }))
    }
}

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Metered<TcpStream>;
    type Service = Metering<S>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.open(stream, service))
    }
}

/// Gives every request of a connection its meter, and the meter every request.
#[derive(Debug, Clone)]
pub(super) struct Metering<S> {
    inner: S,
    meter: Arc<ConnectionMeter>,
    over: Option<Over>,
}

impl<S, B> Service<Request<B>> for Metering<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let under_way = self.meter.request();
        if let Some(over) = self.over {
            self.meter.finish();
            let response = refuse(over, request.version());
            return Box::pin(ready(Ok(HeldBody::hold(response, under_way))));
        }
        request.extensions_mut().insert(Arc::clone(&self.meter));
        let (answer, meter) = (self.inner.call(request), Arc::clone(&self.meter));
        Box::pin(async move {
            let response = answer.await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                meter.upgrade();
            }
            Ok(HeldBody::hold(response, under_way))
        })
    }
}

fn refuse(over: Over, version: Version) -> Response {
    let problem = match over {
        Over::Client => {
            let detail = "too many connections from your address are open; close some, or use fewer";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(CLIENT_RETRY)
        }
        Over::All => {
            let detail = "this relay has too many connections open; try again in a moment";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(ALL_RETRY)
        }
    };
    let id = new_id();
    tracing::debug!(request_id = id, ?over, "a connection is beyond a limit");
    let mut response = problem.for_request(&id).into_response().map(Body::from);
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
