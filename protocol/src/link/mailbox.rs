//! The queue of commands from callers and response bodies to the relay's driver.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};

use super::{Close, body::Slot, gauges::Gauges};
use crate::{
    frame::StreamId,
    message::{Goaway, RequestHead, Welcome},
};

/// One request on its way to the multiplexer.
pub(crate) struct Call {
    pub(crate) head: RequestHead,
    pub(crate) body: Bytes,
    pub(crate) slot: Arc<Slot>,
    /// How long the head of the response may take.
    pub(crate) patience: Duration,
}

/// Commands that wait for the driver's next turn.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) ended: bool,
    /// At most [`crate::limits::MAX_WAITING_CALLS`]; further calls fail at once.
    pub(crate) calls: VecDeque<Call>,
    /// At most one entry per stream, because entries are merged.
    pub(crate) consumed: BTreeMap<StreamId, u32>,
    pub(crate) released: Vec<StreamId>,
    pub(crate) welcome: Option<Welcome>,
    pub(crate) goaway: Option<Goaway>,
    pub(crate) close: Option<Close>,
}

/// The shared queue of commands for the driver.
#[derive(Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    pub(crate) waker: AtomicWaker,
    pub(crate) gauges: Gauges,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox(…)")
    }
}

impl Mailbox {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }

    pub(crate) fn consume(&self, stream: StreamId, cost: u32) {
        self.leave(|inbox| *inbox.consumed.entry(stream).or_default() += cost);
    }

    pub(crate) fn release(&self, stream: StreamId) {
        self.leave(|inbox| inbox.released.push(stream));
    }

    /// Leaves a message and wakes the driver, unless the tunnel has ended.
    pub(crate) fn leave(&self, message: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.lock();
        if inbox.ended {
            return;
        }
        message(&mut inbox);
        drop(inbox);
        self.waker.wake();
    }
}
