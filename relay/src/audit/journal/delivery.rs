//! One recording on its way to a client: how much of it the client's connection has taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use jiff::Timestamp;

use crate::{model::audit::Outcome, net::listen::ConnectionMeter, store::Progress};

/// How the body of a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// Its last octet was handed to the connection.
    Complete,
    /// The tunnel or the agent broke off.
    Cut,
}

const GOES_ON: u8 = 0;
const COMPLETE: u8 = 1;
const CUT: u8 = 2;

/// What the body and the writer share.
///
/// Octets pass from the body into buffers of the HTTP implementation, through TLS, into the socket. What the socket
/// has taken since the answer began, but never more than left the body, is what was delivered: on HTTP/1.1 exact but
/// for the head of the answer and the frame of TLS, on HTTP/2 an upper bound, since other answers share the
/// connection. In no case is it less than what the client has.
#[derive(Debug)]
pub(super) struct Live {
    request_id: String,
    meter: Option<Arc<ConnectionMeter>>,
    /// What the socket had taken when the answer began.
    base: u64,
    left_body: AtomicU64,
    end: AtomicU8,
    /// The body is gone.
    over: AtomicBool,
    /// What the journal knows already.
    told: AtomicU64,
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
            told: AtomicU64::new(0),
        }
    }

    /// Whether the journal does not know yet of so many octets; it does from now on.
    pub(super) fn is_news(&self, bytes: u64) -> bool {
        self.told.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// How the delivery stands now.
    pub(super) fn progress(&self) -> Progress {
        // In this order: a body that is over leaves no more octets, a connection that is closed takes no more.
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

/// A delivery under way: its body says what it hands over. Dropping it ends the delivery.
#[derive(Debug)]
pub struct Delivery(Arc<Live>);

impl Delivery {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self(live)
    }

    /// So many octets more were handed to the connection.
    pub fn handed_over(&self, octets: u64) {
        self.0.left_body.fetch_add(octets, Ordering::Release);
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
