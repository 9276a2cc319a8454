//! A small HTTP/1.1 client: as little work as possible between the socket and the count, so that the machine's time
//! is used by what is measured. It checks every status and every length.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Bytes per read.
const BUFFER_LEN: usize = 256 * 1024;

/// One request, and the expected length of its response.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

impl Target {
    fn request(&self, connection: &str) -> Vec<u8> {
        format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: compare\r\nconnection: {connection}\r\n\r\n",
            self.path, self.address
        )
        .into_bytes()
    }
}

/// A connection for many requests.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_LEN] })
    }

    /// Downloads the whole target. Returns how long that took.
    pub(crate) async fn get(&mut self, target: &Target) -> io::Result<Duration> {
        let start = Instant::now();
        let mut received = self.begin(target, "keep-alive").await?;
        while received < target.bytes {
            received += self.read().await? as u64;
        }
        let took = start.elapsed();
        if received == target.bytes { Ok(took) } else { Err(wrong("more bytes than announced")) }
    }

    /// Begins a download and stops reading after the head of the response and what came with it. Returns how many
    /// bytes of the body were read.
    pub(crate) async fn begin(&mut self, target: &Target, connection: &str) -> io::Result<u64> {
        self.stream.write_all(&target.request(connection)).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let head = &self.buffer[..filled];
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                check(&head[..end], target.bytes)?;
                return Ok((filled - end - 4) as u64);
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }

    /// Downloads on its own connection. Returns how long that took, including the opening of the connection.
    pub(crate) async fn get_anew(target: &Target) -> io::Result<Duration> {
        let start = Instant::now();
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let mut connection = Self { stream, buffer: vec![0; 16 * 1024] };
        let mut received = connection.begin(target, "close").await?;
        loop {
            match connection.stream.read(&mut connection.buffer).await? {
                0 if received == target.bytes => return Ok(start.elapsed()),
                0 => return Err(wrong("not the announced number of bytes")),
                read => received += read as u64,
            }
        }
    }

    /// Downloads everything, to compare it.
    pub(crate) async fn fetch(&mut self, target: &Target) -> io::Result<Vec<u8>> {
        let begun = usize::try_from(self.begin(target, "keep-alive").await?).unwrap_or(usize::MAX);
        let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_default() + 4;
        let mut body = self.buffer[end..end + begun].to_vec();
        while (body.len() as u64) < target.bytes {
            let read = self.read().await?;
            body.extend_from_slice(&self.buffer[..read]);
        }
        Ok(body)
    }
}

/// The status must be 200, and the length must be the expected one.
fn check(head: &[u8], bytes: u64) -> io::Result<()> {
    let head = String::from_utf8_lossy(head);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(wrong(head.lines().next().unwrap_or_default()));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
    });
    if length == Some(bytes) { Ok(()) } else { Err(wrong("not the length of the file")) }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("a wrong response: {what}"))
}
