//! The body of a delivery, which counts the bytes that are handed out.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{entry::Entry, event::Outcome};

/// A body that reports to its audit entry. Dropping it before its end also ends the delivery.
#[derive(Debug)]
pub(super) struct AuditedBody {
    body: Body,
    entry: Entry,
    /// Bytes that are still to come, if the head of the response says how many. A connection that has all of them does
    /// not poll again, and so never sees the end.
    remaining: Option<u64>,
}

impl AuditedBody {
    pub(super) fn new(body: Body, mut entry: Entry, remaining: Option<u64>) -> Self {
        if remaining == Some(0) {
            entry.end(Outcome::Complete);
        }
        Self { body, entry, remaining }
    }

    fn passed(&mut self, octets: u64) {
        self.entry.handed_out(octets);
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(octets);
            if *remaining == 0 {
                self.entry.end(Outcome::Complete);
            }
        }
    }
}

impl http_body::Body for AuditedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let octets = frame.data_ref().map_or(0, Bytes::len);
                self.passed(octets as u64);
            }
            Poll::Ready(Some(Err(_))) => self.entry.failed(),
            Poll::Ready(None) => self.entry.end(Outcome::Complete),
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
