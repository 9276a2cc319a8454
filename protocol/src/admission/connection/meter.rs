//! Counts the bytes that the operating system's socket has accepted on one connection, and the requests on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// Figures of one client connection below TLS and HTTP. Every request of the connection carries it as the extension
/// `Arc<ConnectionMeter>`.
///
/// The bytes that a socket has accepted are the last that a program can know about a delivery. They may still wait in
/// the kernel's buffer or be lost on the way.
#[derive(Debug)]
pub struct ConnectionMeter {
    tls: bool,
    written: AtomicU64,
    closed: AtomicBool,
    /// Requests whose response is not complete yet.
    under_way: AtomicUsize,
    /// Requests so far, so that a request that began and ended between two looks is noticed.
    requests: AtomicU64,
    upgraded: AtomicBool,
    done: AtomicBool,
}

impl ConnectionMeter {
    pub(super) fn new(tls: bool) -> Self {
        Self {
            tls,
            written: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    /// Bytes that the operating system's socket has accepted so far: for all requests of the connection, with the
    /// overhead of HTTP and, if [`ConnectionMeter::is_tls`], of TLS.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// True if the connection has ended: [`ConnectionMeter::written`] no longer grows.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// True if this program itself speaks TLS on the connection. A proxy in front may have ended a TLS connection of
    /// its own.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn add(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Counts a request that has begun. It ends when the returned value is dropped.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// The connection has become a tunnel, which has its own timeouts.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// The connection is to end soon after its running requests.
    pub(super) fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// The activity at this moment. Two values are equal if nothing happened in between.
    pub(super) fn activity(&self) -> Activity {
        let busy = self.under_way.load(Ordering::Relaxed) > 0 || self.upgraded.load(Ordering::Relaxed);
        Activity {
            busy,
            done: self.done.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

/// The activity on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    /// A request is running, or the connection is a tunnel.
    pub(super) busy: bool,
    /// The connection is to end soon.
    pub(super) done: bool,
    requests: u64,
}

/// One running request.
#[derive(Debug)]
pub struct UnderWay(Arc<ConnectionMeter>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
