//! Counts what the operating system's socket has taken from one connection, and what goes on on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// What is known of one client connection beneath TLS and HTTP. Every request of the connection carries it as the
/// extension `Arc<ConnectionMeter>`.
///
/// What a socket has accepted is the last that a program can know of a delivery: it may still wait in the kernel's
/// buffer or be lost on the way.
#[derive(Debug)]
pub struct ConnectionMeter {
    tls: bool,
    written: AtomicU64,
    closed: AtomicBool,
    /// Requests that are not answered to the end.
    under_way: AtomicUsize,
    /// Requests so far, so that one that came and went is noticed.
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

    /// Octets that the operating system's socket has accepted so far: of all requests of the connection, with the
    /// overhead of HTTP and, where [`ConnectionMeter::is_tls`], of TLS.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the connection has ended: [`ConnectionMeter::written`] grows no more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether the client speaks TLS with this program itself. A proxy in front may have ended a TLS of its own.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn add(&self, octets: usize) {
        self.written.fetch_add(octets as u64, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// A request has begun; it ends when what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// The connection has become a tunnel, which looks after itself.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// The connection shall end soon after what is under way on it.
    pub(super) fn finish(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// What was going on at this moment; equal if nothing has since.
    pub(super) fn activity(&self) -> Activity {
        let busy = self.under_way.load(Ordering::Relaxed) > 0 || self.upgraded.load(Ordering::Relaxed);
        Activity {
            busy,
            done: self.done.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }
}

/// What goes on on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    /// A request is under way, or the connection is a tunnel.
    pub(super) busy: bool,
    /// It shall end soon.
    pub(super) done: bool,
    requests: u64,
}

/// One request under way.
#[derive(Debug)]
pub struct UnderWay(Arc<ConnectionMeter>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
