//! A made-up archive, like that of a PBX after ten years.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// The first call, in seconds since the Unix epoch: 2015-01-01.
const FIRST: i64 = 1_420_070_400;
/// Ten years of calls.
const SECONDS: i64 = 10 * 365 * 86_400;
/// A WAV header with a moment of sound.
const CONTENT: [u8; 60] = *b"RIFF\x34\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// The layout of the recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All in one directory.
    Flat,
    /// In one directory for each day.
    ByDate,
}

impl Layout {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::ByDate => "by date",
        }
    }

    /// The value of `--path` for it.
    pub(crate) fn pattern(self, root: &Path) -> String {
        match self {
            Self::Flat => format!("file:{}", root.display()),
            Self::ByDate => format!("file:{}/%YY/%MM/%DD", root.display()),
        }
    }
}

/// An archive.
pub(crate) struct Archive {
    /// Its directory.
    pub(crate) root: PathBuf,
    /// Its layout.
    pub(crate) layout: Layout,
    /// Its calls.
    pub(crate) calls: Vec<(i64, u32)>,
}

impl Archive {
    /// Creates an archive with this many recordings; the same one each time.
    pub(crate) fn make(root: PathBuf, layout: Layout, recordings: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(17);
        let calls: Vec<(i64, u32)> = (0..recordings)
            .map(|n| (FIRST + random.random_range(0..SECONDS), u32::try_from(n).unwrap_or(u32::MAX)))
            .collect();
        for (began, n) in &calls {
            let at = Timestamp::from_second(*began).unwrap().to_zoned(TimeZone::UTC);
            let directory = match layout {
                Layout::Flat => root.clone(),
                Layout::ByDate => root.join(at.strftime("%Y/%m/%d").to_string()),
            };
            let name = format!(
                "q-{}-34911{:06}-{}-{began}.{n}.wav",
                n % 40,
                n % 999_983,
                at.strftime("%Y%m%d-%H%M%S")
            );
            write(&directory, &name);
        }
        Self { root, layout, calls }
    }

    /// The id of a random call, existing or not.
    pub(crate) fn random_id(&self, random: &mut SmallRng, there: bool) -> String {
        let (began, n) = self.calls[random.random_range(0..self.calls.len())];
        if there { format!("{began}.{n}") } else { format!("{began}.{}", u64::from(n) + 5_000_000_000) }
    }
}

fn write(directory: &Path, name: &str) {
    let path = directory.join(name);
    let mut file = fs::File::create(&path).unwrap_or_else(|_| {
        fs::create_dir_all(directory).unwrap();
        fs::File::create(&path).unwrap()
    });
    file.write_all(&CONTENT).unwrap();
}
