//! Opens a recording below its root.

use std::{
    borrow::Cow,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Component, Path},
    time::{Duration, SystemTime},
};

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::fs::{Dir, OpenOptions};

use crate::{
    audio::{
        layout::{self, Layout},
        wav::{self, WavHeader},
    },
    storage::{file::RecordingFile, resolved::Resolved},
};

/// A file that is younger than this has no validators. It may change again within the same tick of its file system's
/// clock, which is two seconds on FAT and one second on old NFS servers.
pub const VALIDATOR_AGE: Duration = Duration::from_secs(2);

/// The error number of Linux for too many levels of links.
const ELOOP: i32 = 40;
/// The error number of Linux for a path that would leave the directory in which it must stay (openat2).
const EXDEV: i32 = 18;

/// Why a recording cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file no longer exists, is not a regular file, or can only be reached by leaving the root.
    #[error("the recording is no longer on the site's disks")]
    Gone(#[source] io::Error),
    /// The file exists but cannot be read.
    #[error("the site cannot read the recording; its operator should look at the agent's log")]
    Unreadable(#[source] io::Error),
    /// The storage is known not to answer, so the agent did not try.
    #[error("the storage of the recording does not answer; try again in a moment")]
    Stalled,
}

/// An open recording.
#[derive(Debug)]
pub struct OpenRecording {
    /// The file, open for reading.
    pub file: RecordingFile,
    /// Size in bytes when it was opened.
    pub size: u64,
    /// Modification time when it was opened; the Unix epoch if the file system has none.
    pub modified: SystemTime,
    /// The first bytes, if they were already read: the whole file, or its first [`wav::HEADER_READ`] bytes.
    pub(crate) head: Option<Vec<u8>>,
    /// The path with all links resolved, if it was looked up.
    pub(crate) resolved: Option<Resolved>,
}

impl OpenRecording {
    /// Opens `path` below `root`. Opens regular files only, and does not wait for the writer of a pipe.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(root: &Dir, path: &Path) -> Result<Self, OpenError> {
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() {
            return Err(OpenError::Gone(io::ErrorKind::InvalidInput.into()));
        }
        let mut options = OpenOptions::new();
        options.read(true).nonblock(true);
        Self::of(root.open_with(path, &options).map_err(classify)?.into_std())
    }

    /// The recording in an open file, if that is a regular file.
    pub(crate) fn of(file: File) -> Result<Self, OpenError> {
        let metadata = file.metadata().map_err(classify)?;
        if !metadata.is_file() {
            return Err(OpenError::Gone(io::ErrorKind::NotFound.into()));
        }
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let file = RecordingFile::new(file, &metadata);
        Ok(Self { file, size: metadata.len(), modified, head: None, resolved: None })
    }

    /// A strong validator (RFC 9110, section 8.8.3), quotes included: size and modification time in nanoseconds.
    /// `None` while the file is younger than [`VALIDATOR_AGE`] at `now`.
    pub fn etag(&self, now: SystemTime) -> Option<String> {
        self.is_settled(now).then(|| {
            let (sign, age) = match self.modified.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => ("", after),
                Err(before) => ("-", before.duration()),
            };
            format!("\"{:x}-{sign}{:x}\"", self.size, age.as_nanos())
        })
    }

    /// Whether the modification time is old enough at `now` to distinguish one content from the next.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        is_settled(self.modified, now)
    }

    /// What the start of the recording says about its sound. The extension is in lower case. Reads at most
    /// [`wav::HEADER_READ`] bytes, and nothing if the start says nothing for this extension.
    pub fn content_info(&self, extension: &str) -> ContentInfo {
        let head = match &self.head {
            _ if !layout::is_told_by_its_head(extension) => None,
            Some(head) => Some(Cow::Borrowed(head.as_slice())),
            None => self.read_head().map(Cow::Owned),
        };
        head.map_or_else(ContentInfo::default, |head| ContentInfo {
            wav: extension.starts_with("wav").then(|| wav::read(&head, self.size)).flatten(),
            decoded: Layout::of(extension, &head, self.size),
        })
    }

    fn read_head(&self) -> Option<Vec<u8>> {
        let mut head = vec![0; wav::HEADER_READ];
        let mut len = 0;
        while len < head.len() {
            match self.file.read_at(&mut head[len..], u64::try_from(len).ok()?) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        head.truncate(len);
        Some(head)
    }
}

/// What the start of a recording says about its sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContentInfo {
    /// The header, if it is a WAV file.
    pub wav: Option<WavHeader>,
    /// The form in which it is delivered, if browsers cannot play the file itself.
    pub decoded: Option<Layout>,
}

impl ContentInfo {
    /// Length of the sound, if it is known.
    pub fn duration(&self) -> Option<Duration> {
        let decoded = self.decoded.map(|layout| layout.duration());
        decoded.or_else(|| self.wav.and_then(|header| header.duration()))
    }

    /// Whether the file has a header but no sound.
    pub fn is_empty(&self) -> bool {
        self.wav.is_some_and(|header| header.sound == 0)
            || self.decoded.is_some_and(|layout| layout.blocks() == 0)
    }
}

/// Whether a modification time is old enough at `now` to distinguish one content from the next.
pub(super) fn is_settled(modified: SystemTime, now: SystemTime) -> bool {
    now.duration_since(modified).is_ok_and(|age| age >= VALIDATOR_AGE)
}

fn classify(error: io::Error) -> OpenError {
    let absent = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput
    );
    if absent || leads_out(&error) { OpenError::Gone(error) } else { OpenError::Unreadable(error) }
}

/// Whether a path was refused because it leads out of its root, or because its links form a loop.
pub(crate) fn leads_out(error: &io::Error) -> bool {
    // An error that cap-std makes itself has no number of the operating system; the kernel's errors are ELOOP and
    // EXDEV.
    match error.raw_os_error() {
        None => error.kind() == io::ErrorKind::PermissionDenied,
        Some(number) => number == ELOOP || number == EXDEV,
    }
}
