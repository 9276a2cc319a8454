//! The TCP connection: to the address that answers first, with a limit on the unsent bytes in the kernel.
//!
//! Happy eyeballs (RFC 8305): if a host has several addresses, the next one is tried before the first has failed. An
//! address that never answers, often an IPv6 one, then costs a quarter of a second and not the whole attempt.
//! hyper-util's `HttpConnector` races only the two families, not the addresses within them, and does not report which
//! address failed or how.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use audiovault_protocol::{limits::UNSENT_FLOOR, link::Traffic};
use futures_util::{StreamExt, stream::FuturesUnordered};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::{Duration, Instant, sleep, timeout_at},
};

/// How long an attempt runs before the next address is tried as well (RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// An address to which no connection was made, and the reason. If it did not answer, the reason is
/// [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Attempt {
    /// The address.
    pub address: SocketAddr,
    /// The error of the operating system.
    pub error: io::Error,
}

/// The addresses that failed, in the order in which they failed.
#[derive(Debug, Default)]
pub struct Attempts(pub Vec<Attempt>);

impl Attempts {
    /// Whether no address answered.
    pub fn all_silent(&self) -> bool {
        self.0.iter().all(|attempt| attempt.error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether every address refused, which a machine does if nothing listens on the port.
    pub fn all_refused(&self) -> bool {
        self.0.iter().all(|attempt| attempt.error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, attempt) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", attempt.address, attempt.error)?;
        }
        Ok(())
    }
}

impl std::error::Error for Attempts {}

/// Connects to the first address that answers within `limit`. Also returns the addresses that failed until then.
///
/// # Errors
/// All addresses, each with its error.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr, Attempts), Attempts> {
    let deadline = Instant::now() + limit;
    let mut waiting = alternating(addresses);
    let mut running = FuturesUnordered::new();
    let mut failed = Attempts::default();
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(async move { (address, timeout_at(deadline, TcpStream::connect(address)).await) });
        }
        tokio::select! {
            Some((address, connected)) = running.next() => {
                match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(tcp) => return Ok((tcp, address, failed)),
                    Err(error) => failed.0.push(Attempt { address, error }),
                }
            }
            () = sleep(ATTEMPT_DELAY), if !waiting.is_empty() => {}
            else => return Err(failed),
        }
    }
}

/// The order of the attempts: the families alternate, beginning with the family of the first address (RFC 8305,
/// section 4).
fn alternating(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let six_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == six_first);
    let longest = first.len().max(second.len());
    (0..longest).flat_map(|n| [first.get(n), second.get(n)]).flatten().copied().collect()
}

/// A socket whose limit of unsent bytes follows [`Traffic::unsent`], so that new data cannot overtake data that waits
/// in the kernel.
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A listener whose backlog is full: the kernel drops every further SYN, as a black hole does.
    async fn black_hole() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(tcp)) =
            tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
        {
            held.push(tcp);
        }
        (listener, held, address)
    }

    #[test]
    fn the_families_take_turns() {
        let [a6, b6, a4, b4, c4] = ["[::a]:1", "[::b]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]
            .map(|text| text.parse().unwrap());
        assert_eq!(alternating(&[a6, b6, a4, b4, c4]), [a6, a4, b6, b4, c4]);
        assert_eq!(alternating(&[a4, b4, a6]), [a4, a6, b4]);
        assert_eq!(alternating(&[]), []);
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_costs_a_quarter_of_a_second() {
        let (_listener, _held, silent) = black_hole().await;
        let works = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = works.local_addr().unwrap();
        let begun = Instant::now();
        let (_, winner, failed) = connect(&[silent, address], LIMIT).await.unwrap();
        assert_eq!((winner, failed.0.len()), (address, 0));
        assert!((ATTEMPT_DELAY..LIMIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_refusal_is_reported_and_followed_by_the_next_address_at_once() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let works = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_, winner, failed) = connect(&[gone, works.local_addr().unwrap()], LIMIT).await.unwrap();
        assert_eq!(winner, works.local_addr().unwrap());
        assert_eq!(failed.0.iter().map(|attempt| attempt.address).collect::<Vec<_>>(), [gone]);
        assert!(!failed.all_silent());
    }

    #[tokio::test]
    async fn each_failed_address_is_reported_with_its_cause() {
        let (_listener, _held, silent) = black_hole().await;
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let failed = connect(&[silent, gone], Duration::from_millis(400)).await.unwrap_err();
        let text = failed.to_string();
        assert!(text.contains(&format!("{gone}: Connection refused")), "{text}");
        assert!(text.contains(&format!("{silent}: timed out")), "{text}");
        let silence = connect(&[silent], Duration::from_millis(300)).await.unwrap_err();
        assert!(silence.all_silent());
    }
}
