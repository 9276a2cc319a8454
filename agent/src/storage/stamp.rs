//! Detects changes of files by polling: that works on every file system, even if a file is replaced by a rename or
//! through a link.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How often files are checked: the interval is seconds for the operator who is watching.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Distinguishes one version of a file from another. A file that does not exist has a stamp too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(Option<(SystemTime, u64, u64)>);

impl Stamp {
    /// The stamp of the file as it is now. Blocks.
    pub fn of(path: &Path) -> Self {
        let of = |file: fs::Metadata| Some((file.modified().ok()?, file.len(), file.ino()));
        Self(fs::metadata(path).ok().and_then(of))
    }

    /// Whether the file exists and was last changed at least `age` before `now`.
    pub fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        self.0.is_some_and(|(modified, ..)| now.duration_since(modified).is_ok_and(|since| since >= age))
    }
}

/// Watches some files for changes.
#[derive(Debug)]
pub struct Watcher {
    files: Vec<PathBuf>,
    known: Vec<Stamp>,
}

impl Watcher {
    /// Starts from the current content of the files. Blocks.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let known = files.iter().map(|file| Stamp::of(file)).collect();
        Self { files, known }
    }

    /// Waits until a file has changed and then stayed the same for a moment, so that it is not read half written.
    pub async fn changed(&mut self) {
        let mut before = self.known.clone();
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = self.look().await;
            if now == before && now != self.known {
                self.known = now;
                return;
            }
            before = now;
        }
    }

    async fn look(&self) -> Vec<Stamp> {
        let files = self.files.clone();
        let look = move || files.iter().map(|file| Stamp::of(file)).collect();
        tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| self.known.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let draft = dir.path().join("draft");
        let mut watcher = Watcher::new(vec![dir.path().join("other"), path.clone()]);
        fs::write(&path, "a").unwrap();
        watcher.changed().await;
        fs::write(&draft, "b").unwrap();
        fs::rename(&draft, &path).unwrap();
        watcher.changed().await;
        fs::remove_file(&path).unwrap();
        watcher.changed().await;
        let quiet = tokio::time::timeout(60 * POLL_INTERVAL, watcher.changed()).await;
        assert!(quiet.is_err(), "nothing has changed");
    }
}
