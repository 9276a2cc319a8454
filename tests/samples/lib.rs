//! Recordings with audible content: real WAV files with real durations.

#![expect(clippy::expect_used, reason = "a test cannot continue without its recording")]

use std::{
    f64::consts::TAU,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

/// Samples per second in telephony.
pub const RATE: u32 = 8_000;

/// A mono 16-bit PCM WAV file of this duration: syllables of a humming voice with pauses, different for each seed.
pub fn wav(seconds: f64, seed: u32) -> Vec<u8> {
    let samples = (seconds * f64::from(RATE)) as u32;
    let bytes = samples * 2;
    let mut file = Vec::with_capacity(44 + bytes as usize);
    let mut field = |bytes: &[u8]| file.extend_from_slice(bytes);
    field(b"RIFF");
    field(&(36 + bytes).to_le_bytes());
    field(b"WAVEfmt ");
    field(&16u32.to_le_bytes());
    field(&1u16.to_le_bytes());
    field(&1u16.to_le_bytes());
    field(&RATE.to_le_bytes());
    field(&(RATE * 2).to_le_bytes());
    field(&2u16.to_le_bytes());
    field(&16u16.to_le_bytes());
    field(b"data");
    field(&bytes.to_le_bytes());
    let pitch = 110.0 + f64::from(seed % 90);
    for n in 0..samples {
        let t = f64::from(n) / f64::from(RATE);
        let syllable = (t * 3.1 + f64::from(seed)).sin().max(0.0);
        let voice = (TAU * pitch * t).sin()
            + 0.5 * (TAU * pitch * 2.0 * t).sin()
            + 0.25 * (TAU * pitch * 5.0 * t).sin();
        field(&((voice * syllable * 9_000.0) as i16).to_le_bytes());
    }
    file
}

/// The call id of [`one_recording`].
pub const CALL: &str = "1711441902.17";

/// A directory with one recording, which has one second of one call.
pub fn one_recording() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write(dir.path(), format!("in-{CALL}.wav"), &wav(1.0, 1));
    dir
}

/// Writes a file and all directories above it. Its modification time is one hour ago, so it does not count as growing.
pub fn write(root: &Path, path: impl AsRef<Path>, content: &[u8]) -> PathBuf {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    write_at(root, path, content, hour_ago)
}

/// Writes a file with this modification time, and all directories above it.
pub fn write_at(root: &Path, path: impl AsRef<Path>, content: &[u8], modified: SystemTime) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
    let mut file = fs::File::create(&path).expect("a file");
    file.write_all(content).expect("room on the disk");
    file.set_modified(modified).expect("a time");
    path
}

/// Bytes that do not repeat soon, so that a wrong offset is noticed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
