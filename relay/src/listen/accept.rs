//! What happens to a connection between its acceptance and its first request, beneath TLS.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use axum_server::accept::Accept;
use http::Request;
use tokio::net::TcpStream;
use tower::Service;

use super::meter::{ConnectionMeter, Metered};

/// Puts a meter around every connection and hands it to every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeteringAcceptor {
    /// Whether the listener speaks TLS above.
    pub(super) tls: bool,
}

impl<S> Accept<TcpStream, S> for MeteringAcceptor {
    type Stream = Metered<TcpStream>;
    type Service = WithMeter<S>;
    type Future = Ready<std::io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // A head must not wait for the acknowledgement of the previous answer.
        if let Err(error) = stream.set_nodelay(true) {
            return ready(Err(error));
        }
        let meter = Arc::new(ConnectionMeter::new(self.tls));
        let stream = Metered::new(stream, Arc::clone(&meter));
        ready(Ok((stream, WithMeter { inner: service, meter })))
    }
}

/// Gives every request of a connection its meter.
#[derive(Debug, Clone)]
pub(super) struct WithMeter<S> {
    inner: S,
    meter: Arc<ConnectionMeter>,
}

impl<S, B> Service<Request<B>> for WithMeter<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(Arc::clone(&self.meter));
        self.inner.call(request)
    }
}
