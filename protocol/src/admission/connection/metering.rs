//! The service around a connection's requests and responses, which connects them with the connection's meter.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use tower::Service;

use super::{
    held::HeldBody,
    meter::{ConnectionMeter, UnderWay},
};
use crate::admission::gate::Exceeded;

/// What is answered on a connection above a limit. The connection carries one request, which must come within a second,
/// so that clients that send nothing do not use the room for long.
#[derive(Debug)]
pub struct BeyondLimit<B> {
    /// The response to a request that is refused.
    pub refusal: fn(Exceeded) -> Response<B>,
    /// Paths that are served in spite of the limit.
    pub answered: &'static [&'static str],
}

impl<B> Clone for BeyondLimit<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for BeyondLimit<B> {}

/// Gives every request of a connection its meter, and counts the request on the meter.
#[derive(Debug)]
pub struct Metering<S, B> {
    inner: S,
    meter: Arc<ConnectionMeter>,
    exceeded: Option<Exceeded>,
    beyond: BeyondLimit<B>,
}

impl<S, B> Metering<S, B> {
    pub(super) fn new(
        inner: S,
        meter: Arc<ConnectionMeter>,
        exceeded: Option<Exceeded>,
        beyond: BeyondLimit<B>,
    ) -> Self {
        Self { inner, meter, exceeded, beyond }
    }
}

impl<S: Clone, B> Clone for Metering<S, B> {
    fn clone(&self) -> Self {
        let Self { inner, meter, exceeded, beyond } = self;
        Self { inner: inner.clone(), meter: Arc::clone(meter), exceeded: *exceeded, beyond: *beyond }
    }
}

impl<S, A, B> Service<Request<A>> for Metering<S, B>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<HeldBody<B, UnderWay>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let under_way = self.meter.request();
        let is_last = self.exceeded.is_some() && request.version() <= Version::HTTP_11;
        if let Some(exceeded) = self.exceeded
            && !self.beyond.answered.contains(&request.uri().path())
        {
            let mut response = (self.beyond.refusal)(exceeded);
            if is_last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            return Box::pin(ready(Ok(response.map(|body| HeldBody::new(body, under_way)))));
        }
        request.extensions_mut().insert(Arc::clone(&self.meter));
        let answer = self.inner.call(request);
        let meter = Arc::clone(&self.meter);
        Box::pin(async move {
            let mut response = answer.await?;
            if is_last {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                meter.upgrade();
            }
            Ok(response.map(|body| HeldBody::new(body, under_way)))
        })
    }
}
