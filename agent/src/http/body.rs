//! The body of a recording, read from disk in large chunks (and decoded if necessary), at most one chunk ahead of the
//! reader.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use audiovault_protocol::limits::FULL_DATA_LEN;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use rustix::{
    buffer::spare_capacity,
    io::{Errno, pread},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    audio::decoding::Decoding,
    storage::{blocking_pool::BlockingPool, cached_read, open::RecordingFile},
};

/// Bytes per read. A disk needs about as long to read this many as to find the first, and 64 downloads at a time hold
/// 32 MiB.
pub const CHUNK_LEN: usize = 256 * 1024;
/// Bytes of a buffer of the pool: four full DATA frames, which are still in the processor's cache when they are
/// encrypted.
const BUFFER_LEN: usize = 4 * FULL_DATA_LEN;

/// Most buffers in the pool, 2 MiB in all: one for each of 16 downloads, which one turn of a tunnel may empty all
/// together before the first is filled again.
const MAX_POOLED: usize = 16;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Where the bytes of a body come from.
#[derive(Debug)]
pub enum Source {
    /// A file, from an offset on.
    File(Arc<RecordingFile>, u64),
    /// The decoded form of a recording.
    Decoding(Box<Decoding>),
}

impl Source {
    /// Reads the next bytes, at most `len`. A decoder may need another call before it has any. Blocks.
    fn read(&mut self, len: usize) -> io::Result<Bytes> {
        match self {
            Self::File(file, offset) => {
                let mut chunk = Vec::with_capacity(len);
                while chunk.len() < len {
                    let at = *offset + chunk.len() as u64;
                    match pread(&***file, spare_capacity(&mut chunk), at) {
                        Ok(0) => return Err(shorter()),
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                file.is_unchanged()?;
                chunk.truncate(len);
                *offset += len as u64;
                Ok(chunk.into())
            }
            Self::Decoding(decoding) => decoding.read(len),
        }
    }

    /// Returns the next bytes that are in memory, at most `len`, without blocking. `None` if there are none, or after
    /// an error.
    fn read_at_hand(&mut self, len: usize) -> Option<Bytes> {
        let Self::File(file, offset) = self else { return None };
        let chunk = read_pooled(len, |buffer| cached_read::read(file, *offset, buffer));
        let chunk = chunk.ok().filter(|chunk| !chunk.is_empty())?;
        file.is_certainly_unchanged().then_some(())?;
        *offset += chunk.len() as u64;
        Some(chunk)
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was served")
}

/// A part of a recording, of exactly the promised length.
///
/// If the file becomes shorter, is overwritten, or cannot be read, the body ends in an error, so that the transport
/// visibly cuts the response short. A file that has grown is served to the promised length. Dropping the body stops
/// the reading.
#[derive(Debug)]
pub struct RecordingBody {
    ready: Option<Bytes>,
    reading: Option<Reading>,
    source: Option<Source>,
    /// Bytes that are neither handed out nor ready.
    unread: u64,
    /// Bytes that are not handed out.
    remaining: u64,
    /// Runs the reads of bytes that are not in memory.
    pool: BlockingPool,
    /// The download's permit, released when the body is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

/// A read that is running on the blocking pool.
type Reading = AbortOnDropHandle<io::Result<io::Result<(Source, Bytes)>>>;

impl RecordingBody {
    /// A body of `len` bytes, with nothing read yet.
    pub(crate) fn new(source: Source, len: u64, pool: BlockingPool) -> Self {
        let source = (len > 0).then_some(source);
        Self { ready: None, reading: None, source, unread: len, remaining: len, pool, _place: None }
    }

    /// Reads the first chunk. Blocks.
    ///
    /// # Errors
    /// The error of the read.
    pub fn read_first(&mut self) -> io::Result<()> {
        if let Some(source) = &mut self.source {
            let first = source.read(chunk_len(self.unread))?;
            self.take(first);
        }
        Ok(())
    }

    /// Waits until the first chunk is read, so that a problem with the file can still become an error response.
    ///
    /// # Errors
    /// The error of the first read.
    pub async fn begun(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    /// Holds a permit for a running download until the body is dropped.
    #[must_use]
    pub fn holding(mut self, place: OwnedSemaphorePermit) -> Self {
        self._place = Some(place);
        self
    }

    /// Stores a chunk that was read.
    fn take(&mut self, chunk: Bytes) {
        self.unread -= chunk.len() as u64;
        if self.unread == 0 {
            self.source = None;
        }
        self.ready = Some(chunk).filter(|chunk| !chunk.is_empty());
    }

    /// Reads the next chunk: at once if it is in memory, otherwise on the blocking pool.
    fn read_ahead(&mut self) {
        let Some(mut source) = self.source.take() else { return };
        let len = chunk_len(self.unread);
        if let Some(chunk) = source.read_at_hand(len) {
            self.source = Some(source);
            self.take(chunk);
            return;
        }
        self.reading = Some(self.pool.run(move || {
            let chunk = source.read(len)?;
            Ok((source, chunk))
        }));
    }

    /// Waits until a chunk is ready or the body has ended.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ready.is_none() {
            let Some(reading) = &mut self.reading else {
                if self.source.is_none() {
                    break;
                }
                // A decoder may have read without having a chunk yet, so read again.
                self.read_ahead();
                continue;
            };
            let result = ready!(Pin::new(reading).poll(context));
            self.reading = None;
            let (source, chunk) = result.map_err(io::Error::other).flatten().flatten()?;
            self.source = Some(source);
            self.take(chunk);
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.source = None;
        self.unread = 0;
        self.remaining = 0;
        tracing::warn!(
            %error,
            code = "download.cut",
            "a recording could not be read to its end; its download was cut"
        );
        error
    }
}

impl Body for RecordingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Err(error) = ready!(self.poll_ready(context)) {
            return Poll::Ready(Some(Err(self.fail(error))));
        }
        let Some(chunk) = self.ready.take() else { return Poll::Ready(None) };
        self.remaining -= chunk.len() as u64;
        self.read_ahead();
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0 && self.reading.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

fn chunk_len(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN))
}

/// A buffer whose first `len` bytes were read. It goes back to the pool.
struct Filled {
    buffer: Vec<u8>,
    len: usize,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut pooled = POOL.lock();
        if pooled.len() < MAX_POOLED {
            pooled.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// Has `read` fill a buffer of at most `len` bytes, and never more than [`BUFFER_LEN`].
///
/// It is for reads of data that is in memory, and the buffer comes from a pool. A fresh buffer for each read would be
/// filled with zeros first, and the memory of used ones would go back to the kernel and be fetched again, page by page.
///
/// # Errors
/// The errors of `read`.
fn read_pooled(len: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
    let len = len.min(BUFFER_LEN);
    if len < BUFFER_LEN / 4 {
        let mut buffer = vec![0; len];
        let filled = read(&mut buffer)?;
        buffer.truncate(filled);
        return Ok(buffer.into());
    }
    let pooled = POOL.lock().pop();
    let mut filled = Filled { buffer: pooled.unwrap_or_else(|| vec![0; BUFFER_LEN]), len: 0 };
    filled.len = read(&mut filled.buffer[..len])?.min(len);
    Ok(Bytes::from_owner(filled))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use http_body_util::BodyExt;

    use super::*;

    fn start(file: File, offset: u64, len: u64) -> io::Result<RecordingBody> {
        let mut body = RecordingBody::new(
            Source::File(RecordingFile::shared(file), offset),
            len,
            BlockingPool::default(),
        );
        body.read_first().map(|()| body)
    }

    fn file(len: usize) -> (File, Vec<u8>) {
        let content: Vec<u8> = (0..len).map(|n| (n * 7 / 3) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        (file, content)
    }

    #[tokio::test]
    async fn every_length_arrives_whole() {
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 17] {
            let (file, content) = file(len);
            let body = start(file, 0, len as u64).unwrap();
            assert_eq!(body.size_hint().exact(), Some(len as u64));
            assert_eq!(body.is_end_stream(), len == 0);
            assert!(body.collect().await.unwrap().to_bytes() == content, "{len}");
        }
    }

    #[tokio::test]
    async fn a_part_starts_where_the_file_stands_and_ends_as_promised() {
        let (file, content) = file(2 * CHUNK_LEN);
        let body = start(file, 100, CHUNK_LEN as u64 + 1).unwrap();
        assert!(body.collect().await.unwrap().to_bytes() == content[100..=CHUNK_LEN + 100]);
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_not() {
        let (file, content) = file(3 * CHUNK_LEN);
        let body = start(file.try_clone().unwrap(), 0, content.len() as u64).unwrap();
        file.set_len(2 * CHUNK_LEN as u64).unwrap();
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let body = start(file, 0, CHUNK_LEN as u64).unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), CHUNK_LEN);
    }

    #[tokio::test]
    async fn at_most_one_chunk_is_read_ahead() {
        let (file, _) = file(4 * CHUNK_LEN);
        let mut body = start(file, 0, 4 * CHUNK_LEN as u64).unwrap();
        let mut handed_out = 0;
        for _ in 0..2 {
            handed_out += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        body.begun().await.unwrap();
        let ahead = 4 * CHUNK_LEN - handed_out - usize::try_from(body.unread).unwrap();
        assert!((1..=CHUNK_LEN).contains(&ahead), "{ahead}");
    }

    #[test]
    fn a_file_too_short_for_the_first_chunk_never_starts() {
        let (file, _) = file(10);
        assert!(start(file, 0, 11).is_err());
    }

    #[test]
    fn only_what_was_read_now_is_seen() {
        for (len, byte, read_now) in
            [(BUFFER_LEN, 1, BUFFER_LEN), (BUFFER_LEN, 2, 10), (100, 3, 7), (50_000, 4, 0)]
        {
            let bytes = read_pooled(len, |buffer| {
                assert_eq!(buffer.len(), len);
                buffer[..read_now].fill(byte);
                Ok(read_now)
            });
            assert!(bytes.unwrap() == vec![byte; read_now], "{len}");
        }
        assert!(read_pooled(BUFFER_LEN, |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert_eq!(read_pooled(2 * BUFFER_LEN, |buffer| Ok(buffer.len())).unwrap().len(), BUFFER_LEN);
    }
}
