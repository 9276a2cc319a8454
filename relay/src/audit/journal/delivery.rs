//! One recording on its way to a client, and how much of it the client's connection has taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use audiovault_protocol::admission::connection::ConnectionMeter;
use jiff::Timestamp;

use crate::{model::audit::Outcome, store::Progress};

/// How the body of a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// Its last byte was handed to the connection.
    Complete,
    /// The tunnel or the agent failed before the end.
    Cut,
}

const GOES_ON: u8 = 0;
const COMPLETE: u8 = 1;
const CUT: u8 = 2;

/// What the body and the writer share.
///
/// Bytes go from the body into buffers of the HTTP implementation, through TLS, and into the socket. The
/// delivered bytes are those that the socket has taken since the response began, but never more than have left
/// the body. On HTTP/1.1 this is exact except for the head of the response and the framing of TLS. On HTTP/2 it
/// is an upper bound, since other responses share the connection. It is never less than what the client has.
#[derive(Debug)]
pub(super) struct Live {
    request_id: String,
    meter: Option<Arc<ConnectionMeter>>,
    /// The bytes that the socket had taken when the response began.
    base: u64,
    left_body: AtomicU64,
    end: AtomicU8,
    /// The body has been dropped.
    over: AtomicBool,
    /// The number of bytes that the journal knows already.
    reported: AtomicU64,
}

impl Live {
    pub(super) fn new(request_id: String, meter: Option<Arc<ConnectionMeter>>) -> Self {
        let base = meter.as_ref().map_or(0, |meter| meter.written());
        Self {
            request_id,
            meter,
            base,
            left_body: AtomicU64::new(0),
            end: AtomicU8::new(GOES_ON),
            over: AtomicBool::new(false),
            reported: AtomicU64::new(0),
        }
    }

    /// True if the journal does not know this number of bytes yet; from now on it does.
    pub(super) fn is_news(&self, bytes: u64) -> bool {
        self.reported.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// The progress of the delivery now.
    pub(super) fn progress(&self) -> Progress {
        // In this order: when the body is over, no more bytes leave it, and a closed connection takes no more.
        let over = self.over.load(Ordering::Acquire);
        let closed = self.meter.as_ref().is_none_or(|meter| meter.is_closed());
        let left_body = self.left_body.load(Ordering::Acquire);
        let taken = self.meter.as_ref().map_or(left_body, |meter| meter.written() - self.base);
        let bytes = left_body.min(taken);
        let settled = over && (closed || bytes == left_body);
        let outcome = match self.end.load(Ordering::Acquire) {
            _ if !settled => Outcome::Open,
            COMPLETE if bytes == left_body => Outcome::Complete,
            CUT => Outcome::Cut,
            _ => Outcome::Left,
        };
        let closed = settled.then(Timestamp::now);
        Progress { request_id: self.request_id.clone(), bytes, closed, outcome }
    }
}

/// A delivery under way. Its body reports the bytes that it hands over. Dropping it ends the delivery.
#[derive(Debug)]
pub struct Delivery(Arc<Live>);

impl Delivery {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self(live)
    }

    /// Adds bytes that were handed to the connection.
    pub fn handed_over(&self, bytes: u64) {
        self.0.left_body.fetch_add(bytes, Ordering::Release);
    }

    /// The body has ended.
    pub fn ended(&self, end: DeliveryEnd) {
        let end = match end {
            DeliveryEnd::Complete => COMPLETE,
            DeliveryEnd::Cut => CUT,
        };
        self.0.end.store(end, Ordering::Release);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
    }
}
