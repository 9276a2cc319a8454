//! The body of a response on its way from the tunnel to the client, counted as it passes.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use audiovault_protocol::link::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tracing::Span;

use super::resume::ResumableBody;
use crate::{
    audit::journal::{Delivery, DeliveryEnd},
    tunnel::registry::SiteCounters,
};

/// What is noted about a body that passes.
#[derive(Debug)]
pub(super) struct DeliveryProgress {
    /// The site, for the log.
    pub(super) site: String,
    /// Where the bytes are counted.
    pub(super) counters: Arc<SiteCounters>,
    /// The delivery in the audit log; `None` if the response is not a recording.
    pub(super) delivery: Option<Delivery>,
    /// Bytes that are still to come, if the head of the response says how many. Once all of them have passed, the
    /// connection stops polling the body, and so never sees its end.
    pub(super) remaining: Option<u64>,
}

impl DeliveryProgress {
    fn passed(&mut self, bytes: u64) {
        let Some(delivery) = &self.delivery else { return };
        self.counters.bytes_delivered.fetch_add(bytes, Ordering::Relaxed);
        delivery.handed_over(bytes);
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(bytes);
            if *remaining == 0 {
                delivery.ended(DeliveryEnd::Complete);
            }
        }
    }

    fn ended(&self, end: DeliveryEnd) {
        if let Some(delivery) = &self.delivery {
            delivery.ended(end);
        }
    }
}

/// A body from a tunnel, followed on its way to the client.
#[derive(Debug)]
pub(super) struct DeliveredBody {
    body: ResumableBody,
    progress: DeliveryProgress,
    /// The span of the request, which ends before its body does.
    span: Span,
}

impl DeliveredBody {
    pub(super) fn new(body: ResumableBody, progress: DeliveryProgress) -> Self {
        Self { body, progress, span: Span::current() }
    }
}

impl Body for DeliveredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.progress.passed(bytes as u64);
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::warn!(
                    site = this.progress.site,
                    %error,
                    code = "download.cut",
                    "a response body was cut"
                );
                this.progress.ended(DeliveryEnd::Cut);
            }
            Poll::Ready(None) => this.progress.ended(DeliveryEnd::Complete),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
