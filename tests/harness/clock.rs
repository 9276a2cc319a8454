//! A clock that a story sets, or that runs faster than time, for the programs that are started by it (libfaketime).

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{matrix, process::installed};

/// The clock. Programs look at it whenever they ask for the time.
#[derive(Debug)]
pub struct Clock {
    directory: TempDir,
    /// Whether it is the steady clock too, and every wait by it.
    all: bool,
}

impl Clock {
    /// One that is right until it is set. Its steady sibling, by which times are measured, goes on as ever. `None`,
    /// noted as skipped, where libfaketime is not installed.
    pub fn right() -> Option<Self> {
        Self::new("+0", false)
    }

    /// One that runs so many times as fast as time, and so do all waits: an hour is over in 3600 divided by `factor`
    /// seconds. `None`, noted as skipped, where libfaketime is not installed.
    pub fn fast(factor: u32) -> Option<Self> {
        Self::new(&format!("+0 x{factor}"), true)
    }

    fn new(time: &str, all: bool) -> Option<Self> {
        if !installed("faketime") {
            return None;
        }
        let clock = Self { directory: tempfile::tempdir().expect("a temporary directory"), all };
        clock.set(time);
        Some(clock)
    }

    /// Sets it so far from the right time, as `faketime -f` takes it (`+1d`).
    pub fn set(&self, offset: &str) {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, offset).expect("a file");
        std::fs::rename(fresh, self.file()).expect("a file");
    }

    /// What a program's environment has to say for it to go by this clock.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
        ];
        if self.all {
            // It is never set: looking at it once spares a file's reading for every look at the clock.
            variables.push(("FAKETIME_CACHE_DURATION", "100000".to_owned()));
        } else {
            variables.extend([("FAKETIME_NO_CACHE", "1"), ("DONT_FAKE_MONOTONIC", "1")].map(owned));
        }
        variables
    }

    /// The words before a command line whose program is to go by this clock.
    pub fn words(&self) -> Vec<String> {
        let set = self.variables().into_iter().map(|(name, value)| format!("{name}={value}"));
        std::iter::once("env".to_owned()).chain(set).collect()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("time")
    }
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

/// How many times as fast as time programs are to run in a story that is too long for every day: as often as the story
/// says, and not at all faster where the long stories are wanted as they are.
pub fn factor(everyday: u32) -> u32 {
    if matrix::is_long() { 1 } else { everyday }
}

/// Where Debian puts the library.
fn library() -> PathBuf {
    let directories = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| Path::new("/usr/lib").join(arch));
    let mut files = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1")).into_iter();
    files.find(|file| file.exists()).expect("Debian's package libfaketime")
}
