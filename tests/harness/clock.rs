//! A clock that a test sets, or that runs faster than real time, for the programs that the test starts (libfaketime).

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{matrix, process::installed};

/// The clock. Programs read it whenever they ask for the time.
#[derive(Debug)]
pub struct Clock {
    directory: TempDir,
    /// Whether this is also the monotonic clock, with all timers and waits.
    all: bool,
}

impl Clock {
    /// A clock that shows the real time until it is set. The monotonic clock, which measures durations, is not
    /// changed. `None`, recorded as skipped, if libfaketime is not installed.
    pub fn right() -> Option<Self> {
        Self::new("+0", false)
    }

    /// A clock that runs `factor` times as fast as real time, with all timers and waits: an hour is over in 3600 /
    /// `factor` seconds. `None`, recorded as skipped, if libfaketime is not installed.
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

    /// Sets the offset from the real time, in the format of `faketime -f` (`+1d`).
    pub fn set(&self, offset: &str) {
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, offset).expect("a file");
        std::fs::rename(fresh, self.file()).expect("a file");
    }

    /// The environment variables that make a program use this clock.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
        ];
        if self.all {
            // This clock is never set, so its file needs to be read only once, not at every query of the time.
            variables.push(("FAKETIME_CACHE_DURATION", "100000".to_owned()));
        } else {
            variables.extend([("FAKETIME_NO_CACHE", "1"), ("DONT_FAKE_MONOTONIC", "1")].map(owned));
        }
        variables
    }

    /// The words to put before a command line so that its program uses this clock.
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

/// How many times as fast as real time a long test should run: `everyday` times, or at normal speed if the long tests
/// are wanted in full length.
pub fn factor(everyday: u32) -> u32 {
    if matrix::is_long() { 1 } else { everyday }
}

/// Where Debian installs the library.
fn library() -> PathBuf {
    let directories = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(|arch| Path::new("/usr/lib").join(arch));
    let mut files = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1")).into_iter();
    files.find(|file| file.exists()).expect("Debian's package libfaketime")
}
