//! Reads a recording and decodes it while it is read.

use std::{io, os::unix::fs::FileExt, sync::Arc};

use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use audiovault_agent_core::{
    gsm::{Decoder, FRAME_LEN, Frame, PAIR_LEN, SAMPLES},
    layout::{Codec, Layout},
};
use bytes::Bytes;

use crate::{audio::snapshots::States, storage::open::RecordingFile};

/// Decoded bytes in one step: a few milliseconds of work, after which a cancelled download can stop.
const STEP: u64 = 256 * 1024;

/// The decoded form of a recording, from any position on.
///
/// Each position has the same bytes as if everything were decoded from the beginning: if the codec has a memory,
/// decoding begins there, or at a stored state.
#[derive(Debug)]
pub struct Decoding {
    file: Arc<RecordingFile>,
    layout: Layout,
    /// The position of the next byte to return.
    at: u64,
    /// Decoded bytes from `at` on.
    ready: Bytes,
    /// The next block to decode.
    block: u64,
    decoder: Decoder,
    states: Option<Arc<States>>,
}

impl Decoding {
    /// Begins at a position of the decoded form. Reads nothing yet.
    pub fn new(file: Arc<RecordingFile>, layout: Layout, at: u64, states: Option<Arc<States>>) -> Self {
        let wanted = layout.block_of(at);
        let (block, decoder) = match &states {
            _ if !layout.codec().has_memory() => (wanted, Decoder::default()),
            Some(states) => states.before(wanted),
            None => (0, Decoder::default()),
        };
        let mut header = Bytes::from(layout.header());
        let ready = header.split_off(usize::try_from(at).map_or(header.len(), |at| at.min(header.len())));
        Self { file, layout, at, ready, block, decoder, states }
    }

    /// Returns the next bytes, at most `len`. Empty while the start position is not reached yet: call again.
    ///
    /// # Errors
    /// The error of the read. A file that has become shorter, or a position after its end, gives `UnexpectedEof`.
    pub fn read(&mut self, len: usize) -> io::Result<Bytes> {
        if self.ready.is_empty() {
            self.advance(len as u64)?;
        }
        let bytes = self.ready.split_to(len.min(self.ready.len()));
        self.at += bytes.len() as u64;
        Ok(bytes)
    }

    /// Decodes as much as is requested, but at most one step.
    fn advance(&mut self, len: u64) -> io::Result<()> {
        let behind = self.at.saturating_sub(self.layout.position_of(self.block));
        let blocks = (behind + len).min(STEP).div_ceil(self.layout.block_out());
        let blocks = blocks.min(self.layout.blocks().saturating_sub(self.block));
        if blocks == 0 && len > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let decoded = self.decode(blocks)?;
        self.ready =
            decoded.slice(usize::try_from(behind).map_or(decoded.len(), |skip| skip.min(decoded.len()))..);
        Ok(())
    }

    fn decode(&mut self, blocks: u64) -> io::Result<Bytes> {
        let len = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
        let mut bytes = vec![0; len(blocks * self.layout.block_len())?];
        self.file.read_exact_at(&mut bytes, self.layout.source_of(self.block))?;
        self.file.is_unchanged()?;
        let mut decoded = Vec::with_capacity(len(blocks * self.layout.block_out())?);
        match self.layout.codec() {
            Codec::MuLaw => decoded.extend(bytes.iter().flat_map(|byte| decode_ulaw(*byte).to_le_bytes())),
            Codec::ALaw => decoded.extend(bytes.iter().flat_map(|byte| decode_alaw(*byte).to_le_bytes())),
            Codec::Gsm => {
                for (block, bytes) in (self.block..).zip(bytes.as_chunks::<FRAME_LEN>().0) {
                    self.keep(block);
                    // A block that is not a frame becomes silence of the same length.
                    let samples = Frame::from_bytes(bytes).map(|frame| self.decoder.decode(&frame));
                    append(&samples.unwrap_or([0; SAMPLES]), &mut decoded);
                }
            }
            Codec::GsmPairs => {
                for (block, bytes) in (self.block..).zip(bytes.as_chunks::<PAIR_LEN>().0) {
                    self.keep(block);
                    for frame in Frame::pair_from_bytes(bytes) {
                        append(&self.decoder.decode(&frame), &mut decoded);
                    }
                }
            }
        }
        self.block += blocks;
        Ok(decoded.into())
    }

    fn keep(&self, block: u64) {
        if let Some(states) = &self.states {
            states.pass(block, &self.decoder);
        }
    }
}

fn append(samples: &[i16; SAMPLES], decoded: &mut Vec<u8>) {
    decoded.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use audiovault_agent_core::testing::{RANDOM_GSM, coded_wav};
    use proptest::prelude::*;

    use super::*;
    use crate::audio::snapshots::Snapshots;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn layout(extension: &str, content: &[u8]) -> Layout {
        Layout::of(extension, content, content.len() as u64).unwrap()
    }

    fn states(layout: &Layout) -> Arc<States> {
        Snapshots::default().of("a", layout)
    }

    fn collect(mut decoding: Decoding, len: usize, chunk: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            bytes.extend_from_slice(&decoding.read(chunk.min(len - bytes.len())).unwrap());
        }
        bytes
    }

    /// Recordings of every codec, some of them longer than a step.
    fn recordings() -> Vec<(&'static str, Vec<u8>)> {
        let random: Vec<u8> = (0..30_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        vec![
            ("gsm", RANDOM_GSM.repeat(12)),
            ("wav", coded_wav(0x31, 1, 65, &random)),
            ("wav", coded_wav(7, 2, 2, &random)),
            ("alaw", random),
        ]
    }

    #[test]
    fn every_part_is_a_slice_of_the_whole() {
        for (extension, content) in recordings() {
            let layout = layout(extension, &content);
            let file = file(&content);
            let states = states(&layout);
            let size = usize::try_from(layout.size()).unwrap();
            let whole = collect(
                Decoding::new(RecordingFile::shared(file.try_clone().unwrap()), layout, 0, None),
                size,
                100_000,
            );
            assert_eq!(whole[..44], layout.header());
            let mut config = proptest::test_runner::Config::with_cases(40);
            config.failure_persistence = None;
            proptest::test_runner::TestRunner::new(config)
                .run(&(0..size, 1usize..3000, 1usize..2000, any::<bool>()), |(at, len, chunk, keep)| {
                    let len = len.min(size - at);
                    let kept = keep.then(|| Arc::clone(&states));
                    let part = Decoding::new(
                        RecordingFile::shared(file.try_clone().unwrap()),
                        layout,
                        at as u64,
                        kept,
                    );
                    prop_assert!(collect(part, len, chunk) == whole[at..at + len]);
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn a_place_that_was_passed_is_found_again_at_once() {
        let content = RANDOM_GSM.repeat(60);
        let layout = layout("gsm", &content);
        let states = states(&layout);
        let file = file(&content);
        let end = layout.size() - 2;
        let asked = |states: &Arc<States>| {
            let mut part = Decoding::new(
                RecordingFile::shared(file.try_clone().unwrap()),
                layout,
                end,
                Some(Arc::clone(states)),
            );
            (1..).find(|_| part.read(2).unwrap().len() == 2).unwrap()
        };
        assert_eq!((asked(&states), asked(&states)), (8, 1), "steps of 5.1 s each in 2 min");
    }

    #[test]
    fn what_is_no_frame_is_silence_of_the_same_length() {
        let mut content = RANDOM_GSM.to_vec();
        content[33] = 0;
        let decoded = collect(
            Decoding::new(RecordingFile::shared(file(&content)), layout("gsm", &content), 0, None),
            44 + 960,
            960,
        );
        assert!(decoded[44..364].iter().any(|byte| *byte != 0));
        assert_eq!(decoded[364..684], [0; 320]);
        assert!(decoded[684..].iter().any(|byte| *byte != 0));
    }

    #[test]
    fn a_recording_that_has_become_shorter_ends_in_an_error() {
        let layout = layout("gsm", RANDOM_GSM);
        let file = file(RANDOM_GSM);
        file.set_len(40).unwrap();
        let mut decoding = Decoding::new(RecordingFile::shared(file), layout, 44, None);
        assert_eq!(decoding.read(100_000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let mut beyond =
            Decoding::new(RecordingFile::shared(tempfile::tempfile().unwrap()), layout, layout.size(), None);
        assert_eq!(beyond.read(1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
