//! One recording as a search finds it, its path with all links resolved, and the rules that combine several files into
//! one result.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use audiovault_agent_core::{
    layout::{Layout, delivered_extension},
    media::{self, playability},
};
use audiovault_protocol::recording::media::content_type;
use cap_std::fs::Dir;

use crate::storage::root_id::RootId;

/// A file that changed more recently than this is still being written. Asterisk's buffer of 4 KiB lasts 2.5 s at
/// GSM's 1.6 kB a second, and NFS may hide a change for 3 s.
pub const GROWING_FOR: Duration = Duration::from_secs(5);

/// A recording on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The root in which it lies.
    pub root: RootId,
    /// The path below the root.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub modified: SystemTime,
    /// File name extension in lower case.
    pub extension: String,
    /// Length of the sound, if the header contains it.
    pub duration: Option<Duration>,
    /// The file is empty, or has a header but no sound: the call was not answered.
    pub empty: bool,
    /// Still being written.
    pub growing: bool,
    /// A WAV file that browsers play.
    pub plain_wav: bool,
    /// The form in which it is delivered, if browsers cannot play the file itself.
    pub decoded: Option<Layout>,
    /// Device and inode: two paths with the same pair are the same file.
    pub identity: (u64, u64),
    /// The path with all links resolved.
    pub resolved: Option<Resolved>,
}

impl Recording {
    /// The file name.
    pub fn name(&self) -> OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }

    /// The media type of the file.
    pub fn content_type(&self) -> String {
        content_type(&self.extension)
    }

    /// The media type that is delivered.
    pub fn delivered_type(&self) -> String {
        let decoded = self.decoded.map(|_| delivered_extension(&self.extension));
        content_type(decoded.unwrap_or(&self.extension))
    }

    /// The number of bytes that are delivered.
    pub fn delivered_size(&self) -> u64 {
        self.decoded.map_or(self.size, |layout| layout.size())
    }

    /// The file name that is delivered.
    pub fn delivered_name(&self) -> OsString {
        let name = self.name();
        if self.decoded.is_some() { media::decoded_name(&name) } else { name }
    }

    /// Whether a file with this modification time is still being written at `now`. The clock of a NAS may be ahead,
    /// and a finished recording must not appear to grow for ever; so a time in the future counts only if it is near.
    pub fn is_growing(modified: SystemTime, now: SystemTime) -> bool {
        let distance = now.duration_since(modified).unwrap_or_else(|ahead| ahead.duration());
        distance < GROWING_FOR
    }

    fn preference(&self) -> (bool, bool, u8) {
        (self.empty, self.growing, playability(&self.extension, self.plain_wav, self.decoded.is_some()))
    }
}

/// The path of a recording without links. It differs from the path in the search result if that contains a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The root directory.
    pub root: PathBuf,
    /// The path of the recording below it.
    pub path: PathBuf,
}

impl Resolved {
    /// The path at which the kernel opened `file`, which was opened below `root`. Reads no disk. `None` if the kernel
    /// does not say (without `/proc`).
    pub(crate) fn of_open(root: impl AsFd, file: impl AsFd) -> Option<Self> {
        let root = opened_at(root)?;
        let path = opened_at(file)?.strip_prefix(&root).ok()?.to_owned();
        Some(Self { root, path })
    }

    /// Resolves the links of `path` below `root`; `spelled` is the configured path of the root. Blocks. `None` if
    /// `path` does not exist.
    pub(crate) fn look_up(root: &Dir, spelled: &Path, path: &Path) -> Option<Self> {
        let path = root.canonicalize(path).ok()?;
        Some(Self { root: opened_at(root).unwrap_or_else(|| spelled.to_owned()), path })
    }
}

/// Keeps one path for each file, and one file of each set of twins (the same recording in several formats: same
/// directory, same name, other extension). Then sorts by modification time and name.
///
/// Of twins, a file with sound is preferred, then a finished one, then the one that browsers play best; see
/// [`media::playability`].
pub fn tidy(found: Vec<Recording>) -> Vec<Recording> {
    let mut seen = HashSet::new();
    let mut twins: HashMap<(RootId, PathBuf), Recording> = HashMap::new();
    for recording in found {
        if !seen.insert((recording.identity, recording.size, recording.modified)) {
            continue;
        }
        let key = (recording.root, recording.path.with_extension(""));
        match twins.get(&key) {
            Some(kept) if (kept.preference(), &kept.path) <= (recording.preference(), &recording.path) => {}
            Some(_) | None => {
                twins.insert(key, recording);
            }
        }
    }
    let mut tidy: Vec<Recording> = twins.into_values().collect();
    tidy.sort_by(|a, b| {
        let order = a.modified.cmp(&b.modified).then_with(|| a.name().as_bytes().cmp(b.name().as_bytes()));
        order.then_with(|| (a.root, &a.path).cmp(&(b.root, &b.path)))
    });
    tidy
}

/// The path that the kernel has for an open file (proc(5), `/proc/pid/fd`).
fn opened_at(open: impl AsFd) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", open.as_fd().as_raw_fd());
    fs::read_link(link).ok().filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink};

    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn both_ways_follow_links_of_files_of_directories_and_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        fs::create_dir_all(real.join("private")).unwrap();
        fs::write(real.join("private/a.wav"), b"").unwrap();
        symlink("private", real.join("public")).unwrap();
        symlink("public/a.wav", real.join("b.wav")).unwrap();
        let spelled = dir.path().join("spelled");
        symlink(&real, &spelled).unwrap();
        let root = Dir::open_ambient_dir(&spelled, ambient_authority()).unwrap();
        let expected = Some(Resolved { root: real, path: "private/a.wav".into() });
        for path in ["private/a.wav", "public/a.wav", "b.wav"].map(Path::new) {
            assert_eq!(Resolved::look_up(&root, &spelled, path), expected, "{path:?}");
            let file = File::open(spelled.join(path)).unwrap();
            assert_eq!(Resolved::of_open(&root, &file), expected, "{path:?}");
        }
        assert_eq!(Resolved::look_up(&root, &spelled, Path::new("none.wav")), None);
    }
}
