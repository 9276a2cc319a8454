//! A pool of buffers for reads of data that is in memory. A fresh buffer for each read would be filled with zeros
//! first, and the memory of used ones would go back to the kernel and be fetched again, page by page.

use std::io;

use audiovault_protocol::limits::FULL_DATA_LEN;
use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a buffer: four full DATA frames, which are still in the processor's cache when they are encrypted.
pub(super) const BUFFER_LEN: usize = 4 * FULL_DATA_LEN;

/// Most buffers in the pool, 2 MiB in all: one for each of 16 downloads, which one turn of a tunnel may empty all
/// together before the first is filled again.
const MAX_POOLED: usize = 16;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer whose first `len` bytes were read.
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
/// # Errors
/// The errors of `read`.
pub(super) fn read(len: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Bytes> {
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
    use super::*;

    #[test]
    fn only_what_was_read_now_is_seen() {
        for (len, byte, read_now) in
            [(BUFFER_LEN, 1, BUFFER_LEN), (BUFFER_LEN, 2, 10), (100, 3, 7), (50_000, 4, 0)]
        {
            let bytes = read(len, |buffer| {
                assert_eq!(buffer.len(), len);
                buffer[..read_now].fill(byte);
                Ok(read_now)
            });
            assert!(bytes.unwrap() == vec![byte; read_now], "{len}");
        }
        assert!(read(BUFFER_LEN, |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert_eq!(read(2 * BUFFER_LEN, |buffer| Ok(buffer.len())).unwrap().len(), BUFFER_LEN);
    }
}
