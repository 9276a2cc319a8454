//! Reads the first few kilobytes of a WAV file. Pure.

use std::time::Duration;

/// Bytes to read for [`read`]. PBXs write the format and data chunks within the first 60 bytes; the rest is for tools
/// that put a list of titles in between.
pub const HEADER_READ: usize = 4096;

/// The format tags that browsers play: uncompressed sound, A-law and µ-law.
const PLAIN_TAGS: [u16; 4] = [0x0001, 0x0003, 0x0006, 0x0007];

/// The tag of a format whose real tag is in the extension that follows (Microsoft's `WAVE_FORMAT_EXTENSIBLE`).
const EXTENSIBLE: u16 = 0xfffe;

/// The header of a WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WavHeader {
    /// The codec's number (RFC 2361).
    pub tag: u16,
    /// Number of channels.
    pub channels: u16,
    /// Samples per second of each channel.
    pub rate: u32,
    /// Bytes per second of sound.
    pub bytes_per_second: u32,
    /// Bytes that can only be decoded together.
    pub block: u16,
    /// Offset in the file at which the sound begins.
    pub start: u64,
    /// Length of the sound in bytes.
    pub sound: u64,
    /// Whether browsers play it.
    pub plain: bool,
}

impl WavHeader {
    /// Length of the sound.
    pub fn duration(&self) -> Option<Duration> {
        let seconds = self.sound.checked_mul(1000)?.checked_div(u64::from(self.bytes_per_second))?;
        Some(Duration::from_millis(seconds))
    }
}

/// Reads the start of a file of `size` bytes. `None` if it is not a WAV file, or if its format is not within `head`.
///
/// The size in the data chunk is used only if it can be true. A recorder writes zero, or all ones, until it has
/// finished, and a file that was cut is shorter than its header says. In these cases the size of the file counts.
pub fn read(head: &[u8], size: u64) -> Option<WavHeader> {
    if head.get(..4)? != b"RIFF" || head.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut at = 12usize;
    let mut format = None;
    loop {
        let id = head.get(at..at + 4)?;
        let stated = u32::from_le_bytes(head.get(at + 4..at + 8)?.try_into().ok()?);
        let body = at + 8;
        match id {
            b"fmt " => format = Some(read_format(head, body)?),
            b"data" => {
                let start = u64::try_from(body).ok()?;
                let there = size.saturating_sub(start);
                let unfinished = stated == 0 || u64::from(stated) > there;
                let sound = if unfinished { there } else { u64::from(stated) };
                return Some(WavHeader { start, sound, ..format? });
            }
            _ => {}
        }
        // Chunks are padded to an even length.
        at = body
            .checked_add(usize::try_from(stated).ok()?)?
            .checked_add(usize::try_from(stated & 1).ok()?)?;
    }
}

/// Reads the body of a format chunk. It does not say where the sound is, so `start` and `sound` are 0.
fn read_format(head: &[u8], body: usize) -> Option<WavHeader> {
    let tag = match number16(head, body)? {
        // The identifier of the real format begins with its tag.
        EXTENSIBLE => number16(head, body + 24)?,
        tag => tag,
    };
    Some(WavHeader {
        tag,
        channels: number16(head, body + 2)?,
        rate: number32(head, body + 4)?,
        bytes_per_second: number32(head, body + 8)?,
        block: number16(head, body + 12)?,
        start: 0,
        sound: 0,
        plain: PLAIN_TAGS.contains(&tag),
    })
}

fn number16(head: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?))
}

fn number32(head: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::wav_header;

    #[test]
    fn a_finished_file_states_its_length() {
        let read = read(&wav_header(32_000), 44 + 32_000).unwrap();
        assert_eq!(read.duration(), Some(Duration::from_secs(2)));
        assert_eq!((read.bytes_per_second, read.plain), (16_000, true));
    }

    #[test]
    fn an_unfinished_or_cut_file_counts_by_its_size() {
        for stated in [0, u32::MAX, 64_000] {
            let read = read(&wav_header(stated), 44 + 16_000).unwrap();
            assert_eq!(read.duration(), Some(Duration::from_secs(1)), "{stated}");
        }
        assert_eq!(read(&wav_header(0), 44).unwrap().sound, 0);
    }

    #[test]
    fn chunks_in_between_are_skipped() {
        let plain = wav_header(16_000);
        let mut listed = plain[..36].to_vec();
        listed.extend_from_slice(b"LIST\x05\0\0\0title\0");
        listed.extend_from_slice(&plain[36..]);
        let size = u64::try_from(listed.len()).unwrap() + 16_000;
        assert_eq!(read(&listed, size).unwrap().duration(), Some(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut head in prop::collection::vec(any::<u8>(), 0..200), size: u64) {
            read(&head, size).map(|header| header.duration());
            if head.len() > 12 {
                head[..4].copy_from_slice(b"RIFF");
                head[8..12].copy_from_slice(b"WAVE");
                read(&head, size).map(|header| header.duration());
            }
        }
    }
}
