//! The TCP socket of a connection, which limits the unsent bytes in the kernel: new data cannot overtake data that
//! waits there.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use audiovault_protocol::{limits::UNSENT_FLOOR, link::Traffic};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A socket whose limit of unsent bytes follows [`Traffic::unsent`].
#[derive(Debug)]
pub(super) struct Uplink {
    tcp: TcpStream,
    traffic: Arc<Traffic>,
    unsent: usize,
}

impl Uplink {
    /// Sets the options for low latency. If the kernel does not know an option, the socket works without it.
    pub(super) fn new(tcp: TcpStream, traffic: Arc<Traffic>) -> Self {
        let _ = tcp.set_nodelay(true);
        let mut uplink = Self { tcp, traffic, unsent: 0 };
        uplink.hold(UNSENT_FLOOR);
        uplink
    }

    /// Adopts a new limit, unless the change is small.
    fn follow(&mut self) {
        if let Some(wanted) = self.traffic.unsent()
            && wanted.get().abs_diff(self.unsent) > self.unsent / 4
        {
            self.hold(wanted.get());
        }
    }

    /// Waits until the kernel has sent nearly everything. By itself, the kernel checks its limit only at the start of
    /// a buffer of up to 64 KiB, which is a quarter of a second at 2 Mbit/s; `poll` makes it check at once.
    fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ask = || {
            let mut asked = [PollFd::new(&self.tcp, PollFlags::OUT)];
            match poll(&mut asked, Some(&Timespec::default()))? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        };
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_io(Interest::WRITABLE, ask) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                asked => return Poll::Ready(asked),
            }
        }
    }

    fn is_slow(&self) -> bool {
        self.unsent < UNSENT_FLOOR
    }

    fn hold(&mut self, unsent: usize) {
        self.unsent = unsent;
        let unsent = u32::try_from(unsent).unwrap_or(u32::MAX);
        let _ = socket2::SockRef::from(&self.tcp).set_tcp_notsent_lowat(unsent);
    }
}

impl AsyncRead for Uplink {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Uplink {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.follow();
        if self.is_slow() {
            ready!(self.poll_sent(cx))?;
        }
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.follow();
        if self.is_slow() {
            ready!(self.poll_sent(cx))?;
        }
        Pin::new(&mut self.tcp).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
