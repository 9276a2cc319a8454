//! The layout of a decoded recording: a WAV file of 16-bit samples in which every byte comes from a known position of
//! the recording. Pure.

use std::time::Duration;

use crate::{gsm, wav};

/// Length in bytes of the header of a decoded recording.
pub const HEADER_LEN: u64 = 44;

/// Samples per second of files without a header, as in telephony.
const RAW_RATE: u32 = 8_000;
/// Format tags of WAV files (RFC 2361).
const TAG_A_LAW: u16 = 0x0006;
const TAG_MU_LAW: u16 = 0x0007;
const TAG_GSM: u16 = 0x0031;

/// The codec of a recording that browsers do not play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// GSM 06.10 in frames of 33 bytes: `.gsm`.
    Gsm,
    /// GSM 06.10 in pairs of frames of 65 bytes, as in WAV files: `wav49`.
    GsmPairs,
    /// G.711 µ-law.
    MuLaw,
    /// G.711 A-law.
    ALaw,
}

/// A recording and the WAV file that it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    codec: Codec,
    /// Offset in the recording at which the sound begins.
    start: u64,
    /// Number of whole blocks of sound. A block can be decoded alone, or after the blocks before it.
    blocks: u64,
    rate: u32,
    channels: u16,
}

/// The extension, in lower case, with which recordings of a given extension are delivered. That of WAV files never
/// changes, so that a link need not know their codec.
pub fn delivered_extension(extension: &str) -> &str {
    match raw_codec(extension) {
        Some(_) => "wav",
        None if extension == "wav49" => "wav",
        None => extension,
    }
}

/// Whether the start of a recording decides how it is delivered.
pub fn is_decided_by_its_head(extension: &str) -> bool {
    extension.starts_with("wav") || raw_codec(extension).is_some()
}

/// The codec of files without a header, by their extension in lower case.
fn raw_codec(extension: &str) -> Option<Codec> {
    match extension {
        "gsm" => Some(Codec::Gsm),
        "ulaw" | "ul" | "pcmu" => Some(Codec::MuLaw),
        "alaw" | "al" | "pcma" => Some(Codec::ALaw),
        _ => None,
    }
}

impl Layout {
    /// The layout of a recording of `size` bytes that begins with `head`. `None` if it is delivered as it is:
    /// browsers play it, its content does not fit its name, or it would be longer than a WAV file can be (4 GiB).
    ///
    /// A last block that is cut short or not yet fully written does not count, because it cannot be decoded.
    pub fn of(extension: &str, head: &[u8], size: u64) -> Option<Self> {
        let (codec, start, sound, rate, channels) = if let Some(codec) = raw_codec(extension) {
            let signed = head.first().is_none_or(|byte| gsm::Frame::may_begin_with(*byte));
            if codec == Codec::Gsm && !signed {
                return None;
            }
            (codec, 0, size, RAW_RATE, 1)
        } else if extension.starts_with("wav") {
            let header = wav::read(head, size)?;
            let codec = match header.tag {
                TAG_MU_LAW if header.block == header.channels => Codec::MuLaw,
                TAG_A_LAW if header.block == header.channels => Codec::ALaw,
                TAG_GSM if header.channels == 1 && usize::from(header.block) == gsm::PAIR_LEN => {
                    Codec::GsmPairs
                }
                _ => return None,
            };
            (codec, header.start, header.sound, header.rate, header.channels)
        } else {
            return None;
        };
        let unfit = rate == 0 || channels == 0;
        let blocks = sound.checked_div(codec.block_len(channels))?;
        let layout = Self { codec, start, blocks, rate, channels };
        (!unfit && layout.fits()).then_some(layout)
    }

    /// Whether every value fits into its field of the header.
    fn fits(&self) -> bool {
        let size = self.blocks.checked_mul(self.block_out()).and_then(|sound| sound.checked_add(HEADER_LEN));
        let second = u64::from(self.rate) * u64::from(self.channels) * 2;
        size.is_some_and(|size| u32::try_from(size).is_ok())
            && u32::try_from(second).is_ok()
            && self.channels < 1 << 15
    }

    /// The codec of the recording.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Size in bytes of the delivered file.
    pub fn size(&self) -> u64 {
        self.position_of(self.blocks)
    }

    /// Number of whole blocks of sound.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of a block in the recording.
    pub fn block_len(&self) -> u64 {
        self.codec.block_len(self.channels)
    }

    /// Bytes of a decoded block.
    pub fn block_out(&self) -> u64 {
        self.codec.samples() * 2 * u64::from(self.channels)
    }

    /// Offset in the recording at which a block begins.
    pub fn source_of(&self, block: u64) -> u64 {
        self.start + block * self.block_len()
    }

    /// Offset in the delivered file at which a block begins.
    pub fn position_of(&self, block: u64) -> u64 {
        HEADER_LEN + block * self.block_out()
    }

    /// The block from which a byte of the delivered file comes; the first block for bytes of the header.
    pub fn block_of(&self, position: u64) -> u64 {
        position.saturating_sub(HEADER_LEN) / self.block_out()
    }

    /// Bytes per second of sound in the delivered file.
    pub fn bytes_per_second(&self) -> u32 {
        self.rate.saturating_mul(u32::from(self.channels)).saturating_mul(2)
    }

    /// Bytes per second of sound in the recording itself.
    pub fn source_bytes_per_second(&self) -> u32 {
        let second = u64::from(self.rate) * self.block_len() / self.codec.samples();
        u32::try_from(second).unwrap_or(u32::MAX)
    }

    /// Length of the sound.
    pub fn duration(&self) -> Duration {
        let milliseconds =
            u128::from(self.blocks * self.codec.samples()) * 1000 / u128::from(self.rate.max(1));
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }

    /// The header of the delivered file: RIFF, a format of uncompressed 16-bit samples, and the size of the sound
    /// (Microsoft's Multimedia Programming Interface and Data Specifications 1.0).
    pub fn header(&self) -> Vec<u8> {
        let sound = u32::try_from(self.blocks * self.block_out()).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(usize::try_from(HEADER_LEN).unwrap_or_default());
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&sound.saturating_add(36).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
        header.extend_from_slice(&self.channels.to_le_bytes());
        header.extend_from_slice(&self.rate.to_le_bytes());
        header.extend_from_slice(&self.bytes_per_second().to_le_bytes());
        header.extend_from_slice(&self.channels.saturating_mul(2).to_le_bytes());
        header.extend_from_slice(b"\x10\0data");
        header.extend_from_slice(&sound.to_le_bytes());
        header
    }
}

impl Codec {
    /// Whether decoding a block depends on the blocks before it.
    pub fn has_memory(self) -> bool {
        match self {
            Self::Gsm | Self::GsmPairs => true,
            Self::MuLaw | Self::ALaw => false,
        }
    }

    fn block_len(self, channels: u16) -> u64 {
        match self {
            Self::Gsm => gsm::FRAME_LEN as u64,
            Self::GsmPairs => gsm::PAIR_LEN as u64,
            Self::MuLaw | Self::ALaw => u64::from(channels),
        }
    }

    /// Samples of a block in each channel.
    fn samples(self) -> u64 {
        match self {
            Self::Gsm => gsm::SAMPLES as u64,
            Self::GsmPairs => 2 * gsm::SAMPLES as u64,
            Self::MuLaw | Self::ALaw => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::coded_wav;

    fn layout(extension: &str, file: &[u8]) -> Option<Layout> {
        Layout::of(extension, file, file.len() as u64)
    }

    #[test]
    fn each_codec_has_its_sizes() {
        let gsm = [0xd0; 33 * 50];
        for (extension, file, size, seconds, rates) in [
            ("gsm", gsm.to_vec(), 44 + 50 * 320, 1.0, (16_000, 1_650)),
            ("wav", coded_wav(0x31, 1, 65, &[0; 65 * 25]), 44 + 25 * 640, 1.0, (16_000, 1_625)),
            ("wav49", coded_wav(0x31, 1, 65, &[0; 65]), 44 + 640, 0.04, (16_000, 1_625)),
            ("wav", coded_wav(7, 1, 1, &[0; 4_000]), 44 + 8_000, 0.5, (16_000, 8_000)),
            ("wav", coded_wav(6, 2, 2, &[0; 16_000]), 44 + 32_000, 1.0, (32_000, 16_000)),
            ("ulaw", vec![0; 8_000], 44 + 16_000, 1.0, (16_000, 8_000)),
            ("al", vec![0; 80], 44 + 160, 0.01, (16_000, 8_000)),
            ("gsm", vec![], 44, 0.0, (16_000, 1_650)),
        ] {
            let layout = layout(extension, &file).unwrap();
            assert_eq!((layout.size(), layout.duration().as_secs_f64()), (size, seconds), "{extension}");
            assert_eq!((layout.bytes_per_second(), layout.source_bytes_per_second()), rates, "{extension}");
            let header = layout.header();
            let read = wav::read(&header, layout.size()).unwrap();
            assert_eq!(header.len(), 44);
            assert_eq!((read.tag, read.start, read.sound), (1, 44, size - 44));
            assert_eq!(read.bytes_per_second, layout.bytes_per_second());
        }
    }

    #[test]
    fn a_block_that_is_cut_short_does_not_count() {
        let size = |extension, file: &[u8]| layout(extension, file).unwrap().size();
        assert_eq!(size("gsm", &[0xd0; 32]), 44);
        assert_eq!(size("gsm", &[0xd0; 33 * 3 - 1]), 44 + 2 * 320);
        assert_eq!(size("wav", &coded_wav(0x31, 1, 65, &[0; 66])), 44 + 640);
        assert_eq!(size("wav", &coded_wav(7, 2, 2, &[0; 5])), 44 + 8);
    }

    #[test]
    fn what_browsers_play_and_what_is_not_what_it_says_stays_as_it_is() {
        for (extension, file) in [
            ("wav", coded_wav(1, 1, 2, &[0; 100])),
            ("wav", coded_wav(0x31, 2, 65, &[0; 100])),
            ("wav", coded_wav(0x31, 1, 130, &[0; 130])),
            ("wav", coded_wav(7, 0, 0, &[0; 100])),
            ("wav", coded_wav(7, 1, 4, &[0; 100])),
            ("wav", vec![]),
            ("gsm", b"RIFF".to_vec()),
            ("mp3", vec![0xd0; 33]),
        ] {
            assert_eq!(layout(extension, &file), None, "{extension}");
        }
        let longest = (u64::from(u32::MAX) - 44) / 320;
        assert!(Layout::of("gsm", &[0xd0], longest * 33 + 32).is_some());
        assert_eq!(Layout::of("gsm", &[0xd0], (longest + 1) * 33), None, "4 GiB");
    }

    #[test]
    fn only_what_has_no_extension_that_browsers_know_gets_another() {
        for (from, to) in [("gsm", "wav"), ("wav49", "wav"), ("pcma", "wav"), ("wav", "wav"), ("mp3", "mp3")]
        {
            assert_eq!(delivered_extension(from), to);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_heads_never_panic(
            mut head in prop::collection::vec(any::<u8>(), 0..200),
            tag in prop::sample::select(vec![6u8, 7, 0x31]),
            size: u64,
        ) {
            if head.len() > 60 {
                head[..22].copy_from_slice(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\0\0");
                head[20] = tag;
                head[36..40].copy_from_slice(b"data");
            }
            for extension in ["wav", "gsm", "ulaw"] {
                if let Some(layout) = Layout::of(extension, &head, size) {
                    prop_assert!(layout.size() <= u64::from(u32::MAX));
                    prop_assert!(layout.source_of(layout.blocks()) <= size);
                    prop_assert_eq!(layout.block_of(layout.size()), layout.blocks());
                    layout.header();
                    layout.duration();
                }
            }
        }
    }
}
