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
    let pcm = decode_file(include_bytes!("fixtures/speech.gsm"));
    assert_eq!(digest(&pcm), include_str!("fixtures/speech.gsm.sha256").trim());
}

#[test]
fn what_no_encoder_makes_decodes_to_the_very_samples_of_libgsm() {
    let pcm = decode_file(include_bytes!("fixtures/random.gsm"));
    assert_eq!(digest(&pcm), include_str!("fixtures/random.gsm.sha256").trim());
}

#[test]
fn the_edges_saturate() {
    assert_eq!(product(i16::MIN, i16::MIN), i16::MAX);
    assert_eq!(product(i16::MIN, i16::MAX), -32_767);
    assert_eq!((product(16_384, 16_384), product(1, 16_384), product(1, 16_383)), (8192, 1, 0));
    assert_eq!((magnitude(i16::MIN), magnitude(-3)), (i16::MAX, 3));
}

#[test]
fn fields_are_read_from_either_end() {
    let mut bytes = [0; FRAME_LEN];
    bytes[..3].copy_from_slice(&[0b1101_1010, 0b1100_0001, 0b0111_1000]);
    let frame = Frame::from_bytes(&bytes).unwrap();
    assert_eq!(frame.ratios[..4], [0b10_1011, 0b00_0001, 0b0_1111, 0]);
    let mut bytes = [0; PAIR_LEN];
    bytes[..3].copy_from_slice(&[0b0110_1011, 0b1111_0000, 0b1]);
    bytes[32] = 0b1010_0000;
    bytes[33] = 0b01;
    let [first, second] = Frame::pair_from_bytes(&bytes);
    assert_eq!(first.ratios[..4], [0b10_1011, 0b00_0001, 0b1_1111, 0]);
    assert_eq!(second.ratios[..2], [0b01_1010, 0], "the second begins within a byte");
}

#[test]
fn a_frame_without_its_signature_is_refused() {
    assert_eq!(Frame::from_bytes(&[0xe0; FRAME_LEN]), None);
    assert!(Frame::may_begin_with(0xdf) && !Frame::may_begin_with(0xcf));
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
