//! The files for downloads: recordings of four sizes, the same for every contender.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::{Duration, SystemTime},
};

use harness::recordings;

use crate::searched;

/// A size of recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Size {
    /// 1 GiB, once.
    Gibibyte,
    /// 64 MiB, sixteen different ones.
    Mebibytes64,
    /// 500 kB, half a minute of telephony; sixty-four different ones.
    Recording,
    /// 1 kB, sixty-four different ones: the whole recording of a call that was hung up at once.
    Small,
}

impl Size {
    pub(crate) const ALL: [Self; 4] = [Self::Gibibyte, Self::Mebibytes64, Self::Recording, Self::Small];

    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Gibibyte => 1 << 30,
            Self::Mebibytes64 => 64 << 20,
            Self::Recording => 500_000,
            Self::Small => 1_024,
        }
    }

    pub(crate) fn count(self) -> usize {
        match self {
            Self::Gibibyte => 1,
            Self::Mebibytes64 => 16,
            Self::Recording | Self::Small => 64,
        }
    }

    /// The call that has only this recording.
    pub(crate) fn call(self, n: usize) -> String {
        let kind = Self::ALL.iter().position(|size| *size == self).unwrap_or_default();
        format!("17114419{kind:02}.{n}")
    }

    /// The name of the file.
    pub(crate) fn name(self, n: usize) -> String {
        format!("in-{}.wav", self.call(n))
    }
}

/// Writes all files into a directory: valid recordings, each with other sound than the next one.
pub(crate) fn write_all(dir: &Path) -> std::io::Result<()> {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let voice = recordings::wav(60.0, 1);
    for size in Size::ALL {
        for n in 0..size.count() {
            let path = dir.join(size.name(n));
            let mut file = File::create(&path)?;
            let mut left = size.bytes();
            let header = header(left);
            file.write_all(&header)?;
            left -= header.len() as u64;
            let mut start = 44 + n * 2;
            while left > 0 {
                let piece = &voice[start..];
                let piece = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                file.write_all(piece)?;
                left -= piece.len() as u64;
                start = 44;
            }
            file.set_modified(hour_ago)?;
        }
    }
    // Read once, so that the files are in memory for all contenders.
    fs::read_dir(dir)?.try_for_each(|entry| {
        std::io::copy(&mut File::open(entry?.path())?, &mut std::io::sink()).map(drop)
    })?;
    searched::write(dir)
}

/// The header of a recording with this many bytes in all.
fn header(bytes: u64) -> Vec<u8> {
    let mut header = recordings::wav(0.0, 0);
    let sound = u32::try_from(bytes).unwrap_or(u32::MAX) - 44;
    header[4..8].copy_from_slice(&(sound + 36).to_le_bytes());
    header[40..44].copy_from_slice(&sound.to_le_bytes());
    header
}
