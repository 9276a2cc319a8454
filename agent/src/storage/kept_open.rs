//! Recordings that stay open for a moment, because a player requests many ranges of one recording in a row. Only those
//! on local file systems are kept, where the kernel sees every change.
//!
//! Each use checks that the file is as it was when it was opened: neither written, nor renamed, nor removed. A directory
//! above it that was renamed, or a file system that was mounted over it, is noticed when the recording is opened again,
//! [`KEPT_FOR`] later at most.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use crate::{
    limits::KEPT_FILES,
    storage::{open::OpenRecording, root_id::RootId},
};

/// How long a recording stays open: long enough for the requests with which a player begins, and so short that a disk
/// can be unmounted soon after the last one.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// The recordings that stay open, at most [`KEPT_FILES`].
#[derive(Debug, Default)]
pub(super) struct KeptOpen(Mutex<Vec<Kept>>);

#[derive(Debug)]
struct Kept {
    root: RootId,
    path: PathBuf,
    open: OpenRecording,
    until: Instant,
}

impl KeptOpen {
    /// The recording at this path below the root, if it is open and unchanged.
    pub(super) fn find(&self, root: RootId, path: &Path) -> Option<OpenRecording> {
        let mut all = self.0.lock();
        let at = all.iter().position(|kept| kept.root == root && kept.path == path)?;
        let kept = &all[at];
        if kept.until > Instant::now() && kept.open.file.is_as_opened() {
            return Some(kept.open.clone());
        }
        all.swap_remove(at);
        None
    }

    /// Keeps a recording open, if its content can be distinguished from the next one and there is room.
    pub(super) fn keep(self: &Arc<Self>, root: RootId, path: &Path, open: &OpenRecording) {
        // Without a runtime, nothing would close the file in time.
        let Ok(runtime) = Handle::try_current() else { return };
        if !open.file.is_settled() {
            return;
        }
        let mut all = self.0.lock();
        if all.len() >= KEPT_FILES {
            return;
        }
        if all.is_empty() {
            runtime.spawn(close_in_time(Arc::downgrade(self)));
        }
        let until = Instant::now() + KEPT_FOR;
        all.push(Kept { root, path: path.to_owned(), open: open.clone(), until });
    }
}

/// Closes what was kept long enough, until nothing is left.
async fn close_in_time(kept: Weak<KeptOpen>) {
    loop {
        sleep(KEPT_FOR / 4).await;
        let Some(kept) = kept.upgrade() else { return };
        let now = Instant::now();
        let mut all = kept.0.lock();
        all.retain(|kept| kept.until > now);
        if all.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        time::SystemTime,
    };

    use tempfile::TempDir;

    use super::*;

    struct Setting {
        directory: TempDir,
        kept: Arc<KeptOpen>,
    }

    impl Setting {
        fn path(&self) -> PathBuf {
            self.directory.path().join("a.wav")
        }

        fn write(&self, content: &str) {
            fs::write(self.path(), content).unwrap();
            let file = File::options().write(true).open(self.path()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
        }

        fn open(&self) -> OpenRecording {
            OpenRecording::of(File::open(self.path()).unwrap()).unwrap()
        }

        fn kept() -> Self {
            let setting = Self { directory: TempDir::new().unwrap(), kept: Arc::default() };
            setting.write("sound");
            setting.kept.keep(RootId::FIRST, "a.wav".as_ref(), &setting.open());
            setting
        }

        fn find(&self) -> Option<OpenRecording> {
            self.kept.find(RootId::FIRST, "a.wav".as_ref())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_stays_open_for_a_moment() {
        let setting = Setting::kept();
        let found = setting.find().unwrap();
        assert!(Arc::ptr_eq(&found.file, &setting.find().unwrap().file));
        assert!(setting.kept.find(RootId::FIRST, "b.wav".as_ref()).is_none());
        sleep(2 * KEPT_FOR).await;
        assert!(setting.kept.0.lock().is_empty(), "it was closed without another request");
        assert!(setting.find().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_that_is_not_as_it_was_is_opened_again() {
        let changes: [fn(&Setting); 4] = [
            |setting| fs::remove_file(setting.path()).unwrap(),
            |setting| fs::rename(setting.path(), setting.directory.path().join("b.wav")).unwrap(),
            |setting| fs::write(setting.path(), "other").unwrap(),
            |setting| {
                let other = setting.directory.path().join("other");
                fs::write(&other, "other").unwrap();
                fs::rename(other, setting.path()).unwrap();
            },
        ];
        for (number, change) in changes.iter().enumerate() {
            let setting = Setting::kept();
            assert!(setting.find().is_some());
            // The clock of a file system has ticks of some milliseconds.
            std::thread::sleep(Duration::from_millis(20));
            change(&setting);
            assert!(setting.find().is_none(), "change {number}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_recording_that_is_being_written_is_not_kept() {
        let setting = Setting::kept();
        fs::write(setting.directory.path().join("new.wav"), "new").unwrap();
        let open = OpenRecording::of(File::open(setting.directory.path().join("new.wav")).unwrap()).unwrap();
        setting.kept.keep(RootId::FIRST, "new.wav".as_ref(), &open);
        assert!(setting.kept.find(RootId::FIRST, "new.wav".as_ref()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_recordings_stay_open() {
        let setting = Setting::kept();
        for number in 0..2 * KEPT_FILES {
            setting.kept.keep(RootId::FIRST, format!("{number}.wav").as_ref(), &setting.open());
        }
        assert_eq!(setting.kept.0.lock().len(), KEPT_FILES);
    }
}
