//! A connection as slow as an uplink, on tokio's clock.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    time::{Instant, Interval, interval},
};

/// How often bytes arrive.
const TICK: Duration = Duration::from_millis(1);

/// An end that reads slowly; what it writes is sent at once.
pub(crate) struct Slow {
    stream: DuplexStream,
    tick: Interval,
    per_tick: usize,
}

impl Slow {
    /// Reads `per_tick` bytes per millisecond.
    pub(crate) fn new(stream: DuplexStream, per_tick: usize) -> Self {
        Self { stream, tick: interval(TICK), per_tick }
    }
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let _: Instant = ready!(self.tick.poll_tick(cx));
        let mut bytes = vec![0; self.per_tick.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
