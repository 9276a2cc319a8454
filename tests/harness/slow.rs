//! Slow clients: each sends the beginning of something and then a few bytes now and then, to keep a connection open
//! for ever.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// How often a slow client sends its next bytes: far more often than any timeout between bytes.
const DRIP: Duration = Duration::from_millis(500);

/// The part that the client sends slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// The head of an HTTP/1.1 request.
    Head,
    /// The body of a search over HTTP/1.1.
    Body,
    /// The TLS handshake.
    Handshake,
    /// The head of an HTTP/2 request.
    Http2Head,
    /// The body of a search over HTTP/2.
    Http2Body,
}

/// How the connection of a slow client ended.
#[derive(Debug)]
pub struct Ended {
    /// The time after which it ended.
    pub after: Duration,
    /// The bytes that the relay sent.
    pub answer: Vec<u8>,
}

impl Slow {
    /// All kinds that work without TLS.
    pub const PLAIN: [Self; 4] = [Self::Head, Self::Body, Self::Http2Head, Self::Http2Body];

    /// Sends slowly until the relay closes the connection or responds.
    pub async fn run(self, relay: SocketAddr, site: &str) -> Ended {
        let start = Instant::now();
        let mut stream = TcpStream::connect(relay).await.expect("the relay accepts");
        let mut answer = Vec::new();
        let _ = stream.write_all(&self.beginning(site)).await;
        let (mut reader, mut writer) = stream.split();
        let mut ticks = tokio::time::interval(DRIP);
        let mut bytes = [0; 4096];
        loop {
            tokio::select! {
                read = reader.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(count) => {
                        answer.extend_from_slice(&bytes[..count]);
                        if self.is_answered(&answer) {
                            break;
                        }
                    }
                },
                // A write error is ignored, since the end of the connection also shows at the reader.
                _ = ticks.tick() => drop(writer.write_all(self.drip()).await),
            }
        }
        Ended { after: start.elapsed(), answer }
    }

    fn beginning(self, site: &str) -> Vec<u8> {
        match self {
            Self::Head => format!("POST /{site}/search HTTP/1.1\r\nhost: a\r\n").into_bytes(),
            Self::Body => {
                let head =
                    format!("POST /{site}/search HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n");
                head.into_bytes()
            }
            // The header of a TLS record, and of a ClientHello of 508 bytes.
            Self::Handshake => vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
            Self::Http2Head => [PREFACE, &frame(HEADERS, 0, &[0x83, 0x86])].concat(),
            Self::Http2Body => {
                let path = format!("/{site}/search");
                let len = u8::try_from(path.len()).expect("a short path");
                let block = [&[0x83, 0x86, 0x04, len], path.as_bytes(), &[0x01, 1, b'a']].concat();
                [PREFACE, &frame(HEADERS, END_HEADERS, &block)].concat()
            }
        }
    }

    fn drip(self) -> &'static [u8] {
        match self {
            Self::Head => b"x-a: b\r\n",
            Self::Body | Self::Handshake => b"x",
            // A CONTINUATION frame with the field `a: b`, and a DATA frame with one byte.
            Self::Http2Head => &[0, 0, 5, 9, 0, 0, 0, 0, 1, 0, 1, b'a', 1, b'b'],
            Self::Http2Body => &[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'],
        }
    }

    /// Whether an HTTP/2 response has come. Its connection stays open, so the end of the connection does not show it.
    fn is_answered(self, answer: &[u8]) -> bool {
        let mut rest = answer;
        while self == Self::Http2Body && rest.len() >= 9 {
            let len = usize::from(rest[1]) << 8 | usize::from(rest[2]);
            if rest[3] == HEADERS {
                return true;
            }
            rest = rest.get(9 + len..).unwrap_or_default();
        }
        false
    }
}

/// The preface of an HTTP/2 client with an empty SETTINGS frame (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short frame");
    [&[0, 0, len, kind, flags, 0, 0, 0, 1], payload].concat()
}

/// An idle connection from a loopback address of the test's choice.
pub async fn idle(relay: SocketAddr, from: std::net::IpAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(from, 0)).expect("a loopback address");
    socket.connect(relay).await.expect("the relay accepts")
}
