//! Opens a recording below its root. The open file notices when its content changes, and is closed on a thread that
//! may wait.

use std::{
    borrow::Cow,
    cmp::Ordering,
    fs::{File, Metadata},
    io,
    ops::Deref,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Component, Path},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use audiovault_agent_core::{
    layout::{self, Layout},
    wav::{self, WavHeader},
};
use audiovault_common::advice::Advice;
use bytes::Bytes;
use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::fs::{Dir, OpenOptions};
use parking_lot::{Mutex, MutexGuard};

use crate::storage::recording::Resolved;

/// A file that is younger than this has no validators. It may change again within the same tick of its file system's
/// clock, which is two seconds on FAT and one second on old NFS servers.
pub const VALIDATOR_AGE: Duration = Duration::from_secs(2);

/// How long a file that is being appended to may have its new time but its old size: the kernel writes the time
/// first, and the size with the first page.
const APPENDING: Duration = Duration::from_millis(100);
/// How often the size is read during that time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
    #[error("the site cannot read the recording")]
    Unreadable(#[source] io::Error),
    /// The storage is known not to answer, so the agent did not try.
    #[error("the storage of the recording does not answer")]
    Stalled,
}

impl Advice for OpenError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Gone(_) => None,
            Self::Unreadable(_) => Some("its admin should look at the agent's log".into()),
            Self::Stalled => Some("try again in a moment".into()),
        }
    }
}

/// An open recording. Clones share the file.
#[derive(Debug, Clone)]
pub struct OpenRecording {
    /// The file, open for reading.
    pub file: Arc<RecordingFile>,
    /// Size in bytes when it was opened.
    pub size: u64,
    /// Modification time when it was opened; the Unix epoch if the file system has none.
    pub modified: SystemTime,
    /// The first bytes, if they were already read: the whole file, or its first [`wav::HEADER_READ`] bytes.
    pub(crate) head: Option<Bytes>,
    /// The path with all links resolved, if it was looked up.
    pub(crate) resolved: Option<Resolved>,
}

impl OpenRecording {
    /// Opens `path` below `root`. Opens regular files only, and does not wait for the writer of a pipe. The file is closed
    /// by its owner.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(root: &Dir, path: &Path) -> Result<Self, OpenError> {
        Self::of(open_below(root, path)?)
    }

    /// Opens a recording as [`Self::open`] does; its file is closed by a thread that may wait.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) fn open_slow(root: &Dir, path: &Path, closing: &Arc<Closing>) -> Result<Self, OpenError> {
        Self::closed_by(open_below(root, path)?, Some(closing))
    }

    /// The recording in an open file, if that is a regular file. The file is closed by its owner.
    pub(crate) fn of(file: File) -> Result<Self, OpenError> {
        Self::closed_by(file, None)
    }

    fn closed_by(file: File, closing: Option<&Arc<Closing>>) -> Result<Self, OpenError> {
        let metadata = file.metadata().map_err(classify)?;
        if !metadata.is_file() {
            return Err(OpenError::Gone(io::ErrorKind::NotFound.into()));
        }
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let mut file = RecordingFile::new(file, &metadata);
        file.closing = closing.cloned();
        let file = Arc::new(file);
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
            _ if !layout::is_decided_by_its_head(extension) => None,
            Some(head) => Some(Cow::Borrowed(&head[..])),
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

/// An open recording's file.
#[derive(Debug)]
pub struct RecordingFile {
    /// `None` once it is being closed.
    file: Option<File>,
    /// Size and modification time when it was opened, if they distinguish one content from the next.
    content: Option<(u64, SystemTime)>,
    /// When the file was last changed in any way, also by renaming: seconds and nanoseconds (`st_ctim`).
    changed: (i64, i64),
    /// Device and inode.
    identity: (u64, u64),
    /// Closes the file on another thread. `None` if closing never takes long; then the owner closes it.
    closing: Option<Arc<Closing>>,
}

impl RecordingFile {
    /// A file with its metadata. It is closed by its owner.
    fn new(file: File, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().filter(|at| is_settled(*at, SystemTime::now()));
        let content = modified.map(|modified| (metadata.len(), modified));
        let identity = (metadata.dev(), metadata.ino());
        Self { file: Some(file), content, changed: last_change(metadata), identity, closing: None }
    }

    /// Checks that everything that was read so far belongs to the content that was opened. A file that was written
    /// over has a new time. So has a file that has grown, but its old bytes are unchanged. Blocks, and in case of
    /// doubt for up to a tenth of a second more.
    ///
    /// # Errors
    /// The error of the operating system, or one that says that the file was written over.
    pub(crate) fn is_unchanged(&self) -> io::Result<()> {
        let since = Instant::now();
        loop {
            match self.rewritten()? {
                None | Some(Ordering::Greater) => return Ok(()),
                Some(Ordering::Equal) if since.elapsed() < APPENDING => thread::sleep(LOOK_EVERY),
                Some(_) => {
                    return Err(io::Error::other("the file was overwritten while it was served"));
                }
            }
        }
    }

    /// Device and inode: two files with the same pair are the same file.
    pub(super) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether the file could be distinguished from an earlier content when it was opened.
    pub(super) fn is_settled(&self) -> bool {
        self.content.is_some()
    }

    /// Whether the file is in every way as it was when it was opened, and still has a name.
    pub(super) fn is_as_opened(&self) -> bool {
        let Some((size, _)) = self.content else { return false };
        self.metadata()
            .is_ok_and(|now| now.nlink() > 0 && now.len() == size && last_change(&now) == self.changed)
    }

    /// Whether [`Self::is_unchanged`] would succeed without pool.
    pub(crate) fn is_certainly_unchanged(&self) -> bool {
        matches!(self.rewritten(), Ok(None | Some(Ordering::Greater)))
    }

    /// How the size of the file compares with its old size; `None` if the modification time is the same.
    fn rewritten(&self) -> io::Result<Option<Ordering>> {
        let Some((size, modified)) = self.content else { return Ok(None) };
        let now = self.metadata()?;
        Ok(now.modified().is_ok_and(|now| now != modified).then(|| now.len().cmp(&size)))
    }
}

/// Opens a file for reading. The path must have plain names only.
fn open_below(root: &Dir, path: &Path) -> Result<File, OpenError> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.as_os_str().is_empty() {
        return Err(OpenError::Gone(io::ErrorKind::InvalidInput.into()));
    }
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true);
    Ok(root.open_with(path, &options).map_err(classify)?.into_std())
}

fn last_change(metadata: &Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(test)]
impl RecordingFile {
    /// The file of a test, shared as an open recording shares its file.
    pub(crate) fn shared(file: File) -> Arc<Self> {
        let metadata = file.metadata().unwrap();
        Arc::new(Self::new(file, &metadata))
    }
}

impl Deref for RecordingFile {
    type Target = File;

    fn deref(&self) -> &File {
        // Only `drop` takes it out.
        self.file.as_ref().unwrap_or_else(|| unreachable!("a file is there until it is dropped"))
    }
}

impl Drop for RecordingFile {
    fn drop(&mut self) {
        if let (Some(file), Some(closing)) = (self.file.take(), &self.closing) {
            closing.close(file);
        }
    }
}

/// Closes the files of one storage root, one after the other, on a thread that may wait. If they lie on another
/// machine, closing sends it a request (FLUSH of FUSE, CLOSE of NFS and SMB), and it may not answer.
#[derive(Debug, Default)]
pub(super) struct Closing(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    files: Vec<File>,
    /// Whether a thread is closing them.
    at_work: bool,
}

impl Closing {
    fn close(self: &Arc<Self>, file: File) {
        let mut queue = self.queue();
        queue.files.push(file);
        if !queue.at_work {
            let closing = Arc::clone(self);
            let thread = thread::Builder::new().name("closing".to_owned());
            // If no thread can be started, the next call tries again.
            queue.at_work = thread.spawn(move || while closing.next().map(drop).is_some() {}).is_ok();
        }
    }

    /// The next file to close. If there is none, the thread ends.
    fn next(&self) -> Option<File> {
        let mut queue = self.queue();
        let file = queue.files.pop();
        queue.at_work = file.is_some();
        file
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
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

/// Whether a modification time is old enough at `now` to distinguish one content from the next.
fn is_settled(modified: SystemTime, now: SystemTime) -> bool {
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_is_closed_by_another_thread() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let metadata = file.metadata().unwrap();
        let mut file = RecordingFile::new(file, &metadata);
        file.closing = Some(Arc::default());
        drop(file);
        // A pipe ends when its writer is closed.
        assert_eq!((&reader).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_file_that_is_written_over_is_distinguished_from_one_that_grows() {
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        let opened = || {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"some sound").unwrap();
            file.set_modified(hour_ago).unwrap();
            RecordingFile::shared(file)
        };
        let grown = opened();
        grown.is_unchanged().unwrap();
        (&**grown).write_all(b" more").unwrap();
        grown.is_unchanged().unwrap();
        // The time is written before the size.
        let growing = opened();
        growing.set_modified(SystemTime::now()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(2 * LOOK_EVERY);
                (&**growing).write_all(b" more").unwrap();
            });
            growing.is_unchanged().unwrap();
        });
        let written_over = opened();
        FileExt::write_at(&**written_over, b"other", 0).unwrap();
        written_over.is_unchanged().unwrap_err();
    }
}
