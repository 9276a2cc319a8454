//! Detects changes of files by polling. That works on every file system, even if a file is replaced by a rename or
//! through a link.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Distinguishes one version of a file from another by its modification time, length and inode. A file that does not
/// exist has a stamp too.
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

/// Polls until something has another version: files have the version [`Stamp`], or their content if they are small.
pub struct Watcher<V> {
    known: V,
    interval: Duration,
    look: Arc<dyn Fn() -> V + Send + Sync>,
}

impl Watcher<Vec<Stamp>> {
    /// Watches files, starting from their state now. Blocks.
    pub fn of_files(files: Vec<PathBuf>, interval: Duration) -> Self {
        let look = move || files.iter().map(|file| Stamp::of(file)).collect::<Vec<_>>();
        Self::new(look(), interval, look)
    }
}

impl<V: PartialEq + Send + 'static> Watcher<V> {
    /// Compares what `look` finds in every interval with the version that is known so far. `look` may block.
    pub fn new(known: V, interval: Duration, look: impl Fn() -> V + Send + Sync + 'static) -> Self {
        Self { known, interval, look: Arc::new(look) }
    }

    /// Waits until there is another version, and returns it.
    pub async fn changed(&mut self) -> &V {
        loop {
            let now = self.next().await;
            if now != self.known {
                self.known = now;
                return &self.known;
            }
        }
    }

    /// Waits until there is another version that has stayed the same for an interval, and returns it. A file that is
    /// written in steps is not taken half written.
    pub async fn settled(&mut self) -> &V {
        let mut before = None;
        loop {
            let now = self.next().await;
            if now != self.known && before.as_ref() == Some(&now) {
                self.known = now;
                return &self.known;
            }
            before = Some(now);
        }
    }

    /// The version after the next interval.
    async fn next(&self) -> V {
        loop {
            tokio::time::sleep(self.interval).await;
            let look = Arc::clone(&self.look);
            // If the look panicked, it is always right to keep what is known, and to look again.
            if let Ok(now) = tokio::task::spawn_blocking(move || look()).await {
                return now;
            }
        }
    }
}

impl<V> fmt::Debug for Watcher<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The version may be the content of a file with a secret.
        f.debug_struct("Watcher").field("interval", &self.interval).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let draft = dir.path().join("draft");
        let mut watcher = Watcher::of_files(vec![dir.path().join("other"), path.clone()], INTERVAL);
        fs::write(&path, "a").unwrap();
        watcher.settled().await;
        fs::write(&draft, "b").unwrap();
        fs::rename(&draft, &path).unwrap();
        watcher.settled().await;
        fs::remove_file(&path).unwrap();
        watcher.settled().await;
        let quiet = tokio::time::timeout(60 * INTERVAL, watcher.settled()).await;
        assert!(quiet.is_err(), "nothing has changed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_at_once_or_after_it_has_stayed_the_same() {
        let looks = AtomicUsize::new(0);
        let versions = [0, 1, 2, 2, 0];
        let look = move || versions[looks.fetch_add(1, Ordering::Relaxed).min(4)];
        let mut watcher = Watcher::new(0, INTERVAL, look);
        assert_eq!(*watcher.changed().await, 1);
        assert_eq!(*watcher.settled().await, 2);
        assert_eq!(*watcher.settled().await, 0);
    }
}
