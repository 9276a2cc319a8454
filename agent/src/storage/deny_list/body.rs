//! The body of a delivery that can be revoked.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use audiovault_protocol::link::Revocation;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A body that ends in an error as soon as its recording is denied, so that the transport cuts the response visibly.
#[derive(Debug)]
pub(crate) struct RevocableBody {
    body: Body,
    revocation: Revocation,
    over: bool,
}

impl RevocableBody {
    pub(crate) fn new(body: Body, revocation: Revocation) -> Self {
        Self { body, revocation, over: false }
    }
}

impl http_body::Body for RevocableBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if Pin::new(&mut self.revocation).poll(context).is_ready() {
            self.over = true;
            let error = io::Error::new(io::ErrorKind::PermissionDenied, "the recording is no longer offered");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
