//! Recordings for the tests of this crate and of the agent.

/// Frames of GSM that no encoder makes, with their signatures.
pub const RANDOM_GSM: &[u8] = include_bytes!("gsm/fixtures/random.gsm");

/// The 44 bytes before 8 kHz, 16-bit mono sound. They say that `sound` bytes follow.
pub fn wav_header(sound: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(44);
    head.extend_from_slice(b"RIFF");
    head.extend_from_slice(&sound.saturating_add(36).to_le_bytes());
    head.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    head.extend_from_slice(&8000u32.to_le_bytes());
    head.extend_from_slice(&16_000u32.to_le_bytes());
    head.extend_from_slice(b"\x02\0\x10\0data");
    head.extend_from_slice(&sound.to_le_bytes());
    head
}

/// A WAV file at 8 kHz of another codec, with the `fact` chunk that such files have.
pub fn coded_wav(tag: u16, channels: u16, block: u16, sound: &[u8]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0".to_vec();
    file.extend_from_slice(&tag.to_le_bytes());
    file.extend_from_slice(&channels.to_le_bytes());
    file.extend_from_slice(&8000u32.to_le_bytes());
    let rate = if tag == 0x31 { 1_625 } else { 8_000 * u32::from(block) };
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&block.to_le_bytes());
    file.extend_from_slice(b"\0\0\0\0fact\x04\0\0\0\0\0\0\0data");
    file.extend_from_slice(&u32::try_from(sound.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend_from_slice(sound);
    let len = u32::try_from(file.len() - 8).unwrap_or(u32::MAX);
    file[4..8].copy_from_slice(&len.to_le_bytes());
    file
}
