//! What a connection's requests pass on their way in and their answers on their way out.

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
use crate::gate::Over;

/// What a connection beyond a limit is answered.
pub type Refusal<B> = fn(Over) -> Response<B>;

/// Gives every request of a connection its meter, and the meter every request.
#[derive(Debug)]
pub struct Metering<S, B> {
    inner: S,
    meter: Arc<ConnectionMeter>,
    over: Option<Over>,
    refusal: Refusal<B>,
}

impl<S, B> Metering<S, B> {
    pub(super) fn new(
        inner: S,
        meter: Arc<ConnectionMeter>,
        over: Option<Over>,
        refusal: Refusal<B>,
    ) -> Self {
        Self { inner, meter, over, refusal }
    }
}

impl<S: Clone, B> Clone for Metering<S, B> {
    fn clone(&self) -> Self {
        let Self { inner, meter, over, refusal } = self;
        Self { inner: inner.clone(), meter: Arc::clone(meter), over: *over, refusal: *refusal }
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
        if let Some(over) = self.over {
            self.meter.finish();
            let mut response = (self.refusal)(over);
            if request.version() <= Version::HTTP_11 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            return Box::pin(ready(Ok(response.map(|body| HeldBody::new(body, under_way)))));
        }
        request.extensions_mut().insert(Arc::clone(&self.meter));
        let answer = self.inner.call(request);
        let meter = Arc::clone(&self.meter);
        Box::pin(async move {
            let response = answer.await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                meter.upgrade();
            }
            Ok(response.map(|body| HeldBody::new(body, under_way)))
        })
    }
}
