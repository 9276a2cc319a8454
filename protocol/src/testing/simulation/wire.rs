//! One direction of a connection: messages arrive in order, late, at a limited rate, or not at all.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{message::CloseCode, mux::PingPayload};

/// A message of the WebSocket.
#[derive(Debug)]
pub(super) enum Message {
    Frame(Bytes),
    Ping(PingPayload),
    Pong(PingPayload),
    Close(CloseCode),
    /// Not a message: the connection was reset.
    Reset,
}

/// An item that takes time on a wire, depending on its length.
pub(super) trait Carried {
    fn len(&self) -> usize;
}

impl Carried for Message {
    fn len(&self) -> usize {
        match self {
            Self::Frame(bytes) => bytes.len(),
            Self::Ping(_) | Self::Pong(_) | Self::Close(_) | Self::Reset => 8,
        }
    }
}

#[derive(Debug)]
pub(super) struct Wire<M = Message> {
    pub(super) latency: Duration,
    /// Bytes per second.
    pub(super) rate: u64,
    /// When this many bytes are in flight, the sender's socket takes no more.
    pub(super) room: usize,
    /// Nothing arrives before this time.
    held_until: Option<Instant>,
    /// Nothing arrives any more.
    lost: bool,
    free_at: Option<Instant>,
    arrived_last: Option<Instant>,
    queue: VecDeque<(Instant, M)>,
    bytes: usize,
}

impl<M: Carried> Wire<M> {
    pub(super) fn new(latency: Duration, rate: u64, room: usize) -> Self {
        Self {
            latency,
            rate,
            room,
            held_until: None,
            lost: false,
            free_at: None,
            arrived_last: None,
            queue: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Takes over latency, rate and room of another wire.
    pub(super) fn become_like(&mut self, other: &Self) {
        (self.latency, self.rate, self.room) = (other.latency, other.rate, other.room);
    }

    pub(super) fn takes_more(&self) -> bool {
        self.bytes < self.room
    }

    /// Sends a message. Messages that are sent automatically, such as pongs, do not check for room.
    pub(super) fn send(&mut self, message: M, now: Instant) {
        let takes = Duration::from_micros(message.len() as u64 * 1_000_000 / self.rate.max(1));
        let gone = self.free_at.map_or(now, |free| free.max(now)) + takes;
        let at = self.arrived_last.map_or(gone + self.latency, |last| last.max(gone + self.latency));
        (self.free_at, self.arrived_last) = (Some(gone), Some(at));
        self.bytes += message.len();
        self.queue.push_back((at, message));
    }

    /// Holds everything up until this time, as a network does that has lost its route for a while.
    pub(super) fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }

    /// From now on nothing arrives, and neither end is told.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// Releases everything that is held up.
    pub(super) fn heal(&mut self) {
        self.held_until = None;
    }

    /// When the next message arrives.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let (at, _) = self.queue.front().filter(|_| !self.lost)?;
        Some(self.held_until.map_or(*at, |held| held.max(*at)))
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<M> {
        self.next_arrival().filter(|at| *at <= now)?;
        let (_, message) = self.queue.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}
