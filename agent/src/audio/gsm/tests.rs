//! Compares the decoder with digests of libgsm's output for the same files, and decodes arbitrary input.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

fn decode_file(gsm: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::default();
    let frames =
        gsm.chunks_exact(FRAME_LEN).map(|bytes| Frame::from_bytes(bytes.try_into().unwrap()).unwrap());
    frames.flat_map(|frame| decoder.decode(&frame)).flat_map(i16::to_le_bytes).collect()
}

fn digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[test]
fn speech_decodes_to_the_very_samples_of_libgsm() {
    let pcm = decode_file(include_bytes!("../fixtures/speech.gsm"));
    assert_eq!(digest(&pcm), include_str!("../fixtures/speech.gsm.sha256").trim());
}

#[test]
fn what_no_encoder_makes_decodes_to_the_very_samples_of_libgsm() {
    let pcm = decode_file(include_bytes!("../fixtures/random.gsm"));
    assert_eq!(digest(&pcm), include_str!("../fixtures/random.gsm.sha256").trim());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(blocks in prop::collection::vec(prop::array::uniform32(any::<u8>()), 1..40)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let mut bytes = [0; PAIR_LEN];
            bytes[..32].copy_from_slice(&block);
            bytes[33..].copy_from_slice(&block);
            for frame in Frame::pair_from_bytes(&bytes) {
                let samples = decoder.decode(&frame);
                prop_assert!(samples.iter().all(|sample| sample & 7 == 0));
            }
            let mut bytes = [0xd0; FRAME_LEN];
            bytes[1..].copy_from_slice(&block);
            decoder.decode(&Frame::from_bytes(&bytes).unwrap());
        }
    }
}
