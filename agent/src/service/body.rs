//! The body of a recording: read from disk in large chunks, and decoded where need be, at most one of them ahead of its
//! reader.

use std::{
    fs::File,
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};

use crate::sound::decoding::Decoding;

/// Octets read at a time: a disk reads this many in about the time that it takes to find the first, and 64
/// downloads at a time hold 32 MiB.
pub const CHUNK_LEN: usize = 256 * 1024;

/// Where the octets of a body come from.
#[derive(Debug)]
pub enum Source {
    /// A file, from where it stands.
    File(File),
    /// The decoded form of a recording.
    Decoding(Box<Decoding>),
}

impl Source {
    /// The next octets, `len` at most; a decoder may need another call before it has any. Blocks.
    fn read(&mut self, len: usize) -> io::Result<Bytes> {
        match self {
            Self::File(file) => read_chunk(file, len),
            Self::Decoding(decoding) => decoding.read(len),
        }
    }
}

/// A part of a recording of exactly the promised length.
///
/// A file that has become shorter, or that cannot be read, ends in an error, so that the transport cuts the answer
/// short for all to see. One that has grown is served to the promised length. Dropping the body ends the reading.
#[derive(Debug)]
pub struct RecordingBody {
    ready: Option<Bytes>,
    reading: Option<JoinHandle<io::Result<(Source, Bytes)>>>,
    source: Option<Source>,
    /// Octets that are neither handed out nor ready.
    unread: u64,
    /// Octets that are not handed out.
    remaining: u64,
    /// Given back when the body is gone.
    _place: Option<OwnedSemaphorePermit>,
}

impl RecordingBody {
    /// A body of `len` octets. Blocks: the first chunk is read at once, in the same hop to the blocking pool that
    /// opened the file.
    ///
    /// # Errors
    /// Whatever the first read ends in.
    pub fn start(mut source: Source, len: u64) -> io::Result<Self> {
        let first = source.read(chunk_len(len))?;
        let unread = len - first.len() as u64;
        let source = (unread > 0).then_some(source);
        Ok(Self { ready: Some(first), reading: None, source, unread, remaining: len, _place: None })
    }

    /// Holds a place among the downloads that may run, to its end.
    #[must_use]
    pub fn holding(mut self, place: OwnedSemaphorePermit) -> Self {
        self._place = Some(place);
        self
    }

    fn read_ahead(&mut self) {
        if let Some(mut source) = self.source.take() {
            let len = chunk_len(self.unread);
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let chunk = source.read(len)?;
                Ok((source, chunk))
            }));
        }
    }

    fn hand_out(&mut self, chunk: Bytes) -> Option<io::Result<Frame<Bytes>>> {
        self.remaining -= chunk.len() as u64;
        self.read_ahead();
        Some(Ok(Frame::data(chunk)))
    }

    fn fail(&mut self, error: io::Error) -> Option<io::Result<Frame<Bytes>>> {
        self.source = None;
        self.unread = 0;
        self.remaining = 0;
        tracing::warn!(%error, "a recording could not be read to its end; its download was cut");
        Some(Err(error))
    }
}

impl Body for RecordingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        loop {
            if let Some(chunk) = this.ready.take().filter(|chunk| !chunk.is_empty()) {
                return Poll::Ready(this.hand_out(chunk));
            }
            if this.reading.is_none() {
                // Nothing was ready: a decoder is still on its way.
                this.read_ahead();
            }
            let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
            let result = ready!(Pin::new(reading).poll(context));
            this.reading = None;
            match result.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok((source, chunk)) => {
                    this.unread -= chunk.len() as u64;
                    this.source = (this.unread > 0).then_some(source);
                    this.ready = Some(chunk);
                }
                Err(error) => return Poll::Ready(this.fail(error)),
            }
        }
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

fn read_chunk(file: &mut File, len: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(len);
    // `take` ends without asking the file once more.
    let read = file.take(len as u64).read_to_end(&mut chunk)?;
    if read < len {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file became shorter while it was served",
        ));
    }
    Ok(chunk.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use http_body_util::BodyExt;

    use super::*;

    fn file(len: usize) -> (File, Vec<u8>) {
        let content: Vec<u8> = (0..len).map(|n| (n * 7 / 3) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        (file, content)
    }

    #[tokio::test]
    async fn every_length_arrives_whole() {
        for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 17] {
            let (file, content) = file(len);
            let body = RecordingBody::start(Source::File(file), len as u64).unwrap();
            assert_eq!(body.size_hint().exact(), Some(len as u64));
            assert_eq!(body.is_end_stream(), len == 0);
            assert!(body.collect().await.unwrap().to_bytes() == content, "{len}");
        }
    }

    #[tokio::test]
    async fn a_part_starts_where_the_file_stands_and_ends_as_promised() {
        let (mut file, content) = file(2 * CHUNK_LEN);
        file.seek(SeekFrom::Start(100)).unwrap();
        let body = RecordingBody::start(Source::File(file), CHUNK_LEN as u64 + 1).unwrap();
        assert!(body.collect().await.unwrap().to_bytes() == content[100..=CHUNK_LEN + 100]);
    }

    #[tokio::test]
    async fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_not() {
        let (mut file, content) = file(3 * CHUNK_LEN);
        let body =
            RecordingBody::start(Source::File(file.try_clone().unwrap()), content.len() as u64).unwrap();
        file.set_len(2 * CHUNK_LEN as u64).unwrap();
        let error = body.collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        file.seek(SeekFrom::Start(0)).unwrap();
        let body = RecordingBody::start(Source::File(file), CHUNK_LEN as u64).unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), CHUNK_LEN);
    }

    #[tokio::test]
    async fn at_most_one_chunk_is_read_ahead() {
        let (mut file, _) = file(4 * CHUNK_LEN);
        let mut body =
            RecordingBody::start(Source::File(file.try_clone().unwrap()), 4 * CHUNK_LEN as u64).unwrap();
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap();
        body.reading.take().unwrap().await.unwrap().unwrap();
        // Both handles share one position.
        assert_eq!(file.stream_position().unwrap(), 3 * CHUNK_LEN as u64);
    }

    #[test]
    fn a_file_too_short_for_the_first_chunk_never_starts() {
        let (file, _) = file(10);
        assert!(RecordingBody::start(Source::File(file), 11).is_err());
    }
}
