//! A small HTTP/1.1 client: as little work as possible between the socket and the count, so that the machine's time
//! is used by what is measured. It checks every status and every length.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use harness::{client::first_link, process::PATIENCE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::{Url, form_urlencoded::Serializer};

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

/// Where to search, and the token for it.
#[derive(Debug, Clone)]
pub(crate) struct SearchPlace {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) token: String,
}

impl SearchPlace {
    fn request(&self, call: &str) -> Vec<u8> {
        let form = Serializer::new(String::new())
            .append_pair("token", &self.token)
            .append_pair("callid", call)
            .finish();
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: compare\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            self.path,
            self.address,
            form.len()
        )
        .into_bytes()
    }

    /// Searches for a call on a new connection. Returns the path of the link to its first recording.
    pub(crate) async fn link(&self, call: &str) -> io::Result<String> {
        let found = Connection::open(self.address).await?.search(self, call).await?.1;
        let link = first_link(&serde_json::from_slice(&found)?);
        Ok(Url::parse(&link).map_err(io::Error::other)?.path().to_owned())
    }

    /// Waits until a search for a call finds its recording.
    pub(crate) async fn wait_for(&self, call: &str) -> Option<()> {
        let found = async {
            while self.link(call).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.ok()
    }
}

/// The head of a response, with the part of the body that came with it.
#[derive(Debug)]
struct Head {
    /// The length of the whole body.
    length: u64,
    /// Where the body begins in the buffer, and where what was read of it ends.
    begin: usize,
    end: usize,
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
        let head = self.send(&target.request(connection)).await?;
        if head.length == target.bytes {
            Ok((head.end - head.begin) as u64)
        } else {
            Err(wrong("not the length of the file"))
        }
    }

    /// Searches for a call, which must have a recording. Returns how long that took, and the body of the response.
    pub(crate) async fn search(
        &mut self,
        place: &SearchPlace,
        call: &str,
    ) -> io::Result<(Duration, Vec<u8>)> {
        let start = Instant::now();
        let head = self.send(&place.request(call)).await?;
        let mut body = self.buffer[head.begin..head.end].to_vec();
        while (body.len() as u64) < head.length {
            let read = self.read().await?;
            body.extend_from_slice(&self.buffer[..read]);
        }
        let took = start.elapsed();
        let name = b"\"filename\"";
        let is_found = body.windows(name.len()).any(|window| window == name);
        if is_found { Ok((took, body)) } else { Err(wrong("a search without a recording")) }
    }

    /// Sends a request and reads the head of the response, whose status must be 200.
    async fn send(&mut self, request: &[u8]) -> io::Result<Head> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            let head = &self.buffer[..filled];
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(Head { length: length(&head[..end])?, begin: end + 4, end: filled });
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
        let head = self.send(&target.request("keep-alive")).await?;
        let mut body = self.buffer[head.begin..head.end].to_vec();
        while (body.len() as u64) < target.bytes {
            let read = self.read().await?;
            body.extend_from_slice(&self.buffer[..read]);
        }
        Ok(body)
    }
}

/// The length of the body. The status must be 200.
fn length(head: &[u8]) -> io::Result<u64> {
    let head = String::from_utf8_lossy(head);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(wrong(head.lines().next().unwrap_or_default()));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.ok_or_else(|| wrong("no length"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("a wrong response: {what}"))
}
