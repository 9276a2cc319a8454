//! A connection in memory, with a network between its ends that they do not control.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf, Bytes};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::now;
use crate::testing::simulation::{
    Chance,
    tunnel::{Carried, Wire, random_wire},
};

/// Bytes that the network takes at a time.
const PIECE_LEN: usize = 16 * 1024;

/// A piece of data that the network carries.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

impl Carried for Piece {
    fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::End => 1,
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    wire: Wire<Piece>,
    /// Reading, or writing, fails: the connection was reset.
    cut_for: [bool; 2],
    /// The reader is gone.
    deaf: bool,
    wakers: [Option<Waker>; 2],
}

const READER: usize = 0;
const WRITER: usize = 1;

impl Way {
    fn new(wire: Wire<Piece>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { wire, cut_for: [false; 2], deaf: false, wakers: [None, None] }))
    }

    fn wake(&mut self) {
        self.wakers.iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    fn send(&mut self, piece: Piece) {
        if !self.deaf {
            self.wire.send(piece, now());
            self.wake();
        }
    }
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock()
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    from: Arc<Mutex<Way>>,
    to: Arc<Mutex<Way>>,
    /// Bytes that were received and not read yet.
    rest: Bytes,
    ended: bool,
    arrival: Pin<Box<Sleep>>,
}

/// The network of one connection, through which faults are made.
#[derive(Debug)]
pub(super) struct Cable {
    /// From relay to agent, and from agent to relay.
    ways: [Arc<Mutex<Way>>; 2],
}

/// The relay's end, the agent's end, and the network between them.
pub(super) fn connection(chance: &mut Chance) -> (Pipe, Pipe, Cable) {
    let [down, up] = [(); 2].map(|()| Way::new(random_wire(chance)));
    let end = |from: &Arc<Mutex<Way>>, to: &Arc<Mutex<Way>>| Pipe {
        from: Arc::clone(from),
        to: Arc::clone(to),
        rest: Bytes::new(),
        ended: false,
        arrival: Box::pin(tokio::time::sleep_until(now().into())),
    };
    (end(&up, &down), end(&down, &up), Cable { ways: [down, up] })
}

impl Cable {
    /// True if both ends are gone.
    pub(super) fn is_over(&self) -> bool {
        self.ways.iter().all(|way| lock(way).deaf)
    }

    /// The connection breaks. Both ends notice it, or only the agent (1), or only the relay (2).
    pub(super) fn cut(&self, notice: u64) {
        for (way, [reader, writer]) in
            self.ways.iter().zip([[notice != 2, notice != 1], [notice != 1, notice != 2]])
        {
            let mut way = lock(way);
            way.wire.lose();
            way.cut_for = [way.cut_for[READER] || reader, way.cut_for[WRITER] || writer];
            way.wake();
        }
    }

    /// One direction, or both, carry nothing before this time.
    pub(super) fn hold(&self, which: u64, until: Instant) {
        let held = self.ways.iter().enumerate().filter(|(at, _)| which != 1 - *at as u64);
        held.for_each(|(_, way)| lock(way).wire.hold(until));
    }

    /// One direction, or both, carry nothing any more, and neither end notices it.
    pub(super) fn lose(&self, which: u64) {
        let lost = self.ways.iter().enumerate().filter(|(at, _)| which != 1 - *at as u64);
        lost.for_each(|(_, way)| lock(way).wire.lose());
    }

    /// Changes the network for everything that is sent from now on.
    pub(super) fn change_weather(&self, chance: &mut Chance) {
        for way in &self.ways {
            lock(way).wire.become_like(&random_wire::<Piece>(chance));
        }
    }

    pub(super) fn heal(&self) {
        for way in &self.ways {
            let mut way = lock(way);
            way.wire.heal();
            way.wake();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.rest.is_empty() {
                let len = self.rest.len().min(buf.remaining());
                buf.put_slice(&self.rest[..len]);
                self.rest.advance(len);
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let from = Arc::clone(&self.from);
            let mut way = lock(&from);
            if way.cut_for[READER] {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            match way.wire.receive(now()) {
                Some(Piece::Data(bytes)) => {
                    self.rest = bytes;
                    way.wakers[WRITER].take().into_iter().for_each(Waker::wake);
                    continue;
                }
                Some(Piece::End) => {
                    self.ended = true;
                    continue;
                }
                None => {}
            }
            way.wakers[READER] = Some(cx.waker().clone());
            let Some(at) = way.wire.next_arrival() else { return Poll::Pending };
            self.arrival.as_mut().reset(at.into());
            if self.arrival.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut way = lock(&self.to);
        if way.cut_for[WRITER] {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !way.deaf && !way.wire.takes_more() {
            way.wakers[WRITER] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = bytes.len().min(PIECE_LEN);
        way.send(Piece::Data(Bytes::copy_from_slice(&bytes[..len])));
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.to).send(Piece::End);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        lock(&self.to).send(Piece::End);
        let mut from = lock(&self.from);
        from.deaf = true;
        from.wake();
    }
}
