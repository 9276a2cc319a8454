//! The open file of a recording: it notices when its content changes, and is closed on a thread that may wait.

use std::{
    cmp::Ordering,
    fs::{File, Metadata},
    io,
    ops::Deref,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::open::is_settled;
use parking_lot::{Mutex, MutexGuard};

/// How long a file that is being appended to may have its new time but its old size: the kernel writes the time
/// first, and the size with the first page.
const APPENDING: Duration = Duration::from_millis(100);
/// How often the size is read during that time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An open recording's file.
#[derive(Debug)]
pub struct RecordingFile {
    /// `None` once it is being closed.
    file: Option<File>,
    /// Size and modification time when it was opened, if they distinguish one content from the next.
    content: Option<(u64, SystemTime)>,
    /// Closes the file on another thread. `None` if closing never takes long; then the owner closes it.
    closing: Option<Arc<Closing>>,
}

impl RecordingFile {
    /// A file with its metadata. It is closed by its owner.
    pub(super) fn new(file: File, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().filter(|at| is_settled(*at, SystemTime::now()));
        let content = modified.map(|modified| (metadata.len(), modified));
        Self { file: Some(file), content, closing: None }
    }

    /// Lets another thread close the file, one that may wait.
    pub(super) fn closed_by(mut self, closing: &Arc<Closing>) -> Self {
        self.closing = Some(Arc::clone(closing));
        self
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

#[cfg(test)]
impl From<File> for RecordingFile {
    fn from(file: File) -> Self {
        let metadata = file.metadata().unwrap();
        Self::new(file, &metadata)
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

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_file_is_closed_by_somebody_else() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let metadata = file.metadata().unwrap();
        let file = RecordingFile::new(file, &metadata).closed_by(&Arc::default());
        drop(file);
        // A pipe ends when its writer is closed.
        assert_eq!((&reader).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_is_written_over_is_told_from_what_grows() {
        let hour_ago = SystemTime::now() - Duration::from_hours(1);
        let opened = || {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"some sound").unwrap();
            file.set_modified(hour_ago).unwrap();
            RecordingFile::from(file)
        };
        let grown = opened();
        grown.is_unchanged().unwrap();
        (&*grown).write_all(b" more").unwrap();
        grown.is_unchanged().unwrap();
        // The time is written before the size.
        let growing = opened();
        growing.set_modified(SystemTime::now()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(2 * LOOK_EVERY);
                (&*growing).write_all(b" more").unwrap();
            });
            growing.is_unchanged().unwrap();
        });
        let written_over = opened();
        std::os::unix::fs::FileExt::write_at(&*written_over, b"other", 0).unwrap();
        written_over.is_unchanged().unwrap_err();
    }
}
