//! The file of a recording while it is open: it knows whether it still is what it was, and is closed where nobody waits.

use std::{
    cmp::Ordering,
    fs::{File, Metadata},
    io,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::open::is_settled;

/// How long a file that is appended to may have its new time before its new size: the kernel writes the time first, and the
/// size with the first page.
const APPENDING: Duration = Duration::from_millis(100);
/// How often its size is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An open recording's file.
#[derive(Debug)]
pub struct RecordingFile {
    /// `None` once it is to be closed.
    file: Option<File>,
    /// Size and modification time when it was opened, where they tell one content from the next.
    content: Option<(u64, SystemTime)>,
    /// Who closes it; nobody else than whoever has it, where that never takes long.
    closing: Option<Arc<Closing>>,
}

impl RecordingFile {
    /// A file with what is known of it, which is closed by whoever has it.
    pub(super) fn new(file: File, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().filter(|at| is_settled(*at, SystemTime::now()));
        let content = modified.map(|modified| (metadata.len(), modified));
        Self { file: Some(file), content, closing: None }
    }

    /// Is closed by somebody who may wait.
    pub(super) fn closed_by(mut self, closing: &Arc<Closing>) -> Self {
        self.closing = Some(Arc::clone(closing));
        self
    }

    /// Whether what was read until now is of the content that was opened: a file that was written over has another time.
    /// One that has grown has as well, but what it had it still has. Blocks, a tenth of a second more where there is doubt.
    ///
    /// # Errors
    /// What the operating system says, or that it is not.
    pub(crate) fn is_unchanged(&self) -> io::Result<()> {
        let since = Instant::now();
        loop {
            match self.rewritten()? {
                None | Some(Ordering::Greater) => return Ok(()),
                Some(Ordering::Equal) if since.elapsed() < APPENDING => thread::sleep(LOOK_EVERY),
                Some(_) => {
                    return Err(io::Error::other("the file was written over while it was served"));
                }
            }
        }
    }

    /// Whether that is certain at once.
    pub(crate) fn is_certainly_unchanged(&self) -> bool {
        matches!(self.rewritten(), Ok(None | Some(Ordering::Greater)))
    }

    /// How the size of the file compares with what it was, where it has another time.
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
        // Taken out by `drop` alone.
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

/// Closes the files of one storage, one after the other, on a thread that may wait: where they lie on another machine, that
/// is asked (FLUSH of FUSE, CLOSE of NFS and SMB), and may not answer.
#[derive(Debug, Default)]
pub(super) struct Closing(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    files: Vec<File>,
    /// Whether somebody closes them.
    at_work: bool,
}

impl Closing {
    fn close(self: &Arc<Self>, file: File) {
        let mut queue = self.queue();
        queue.files.push(file);
        if !queue.at_work {
            let closing = Arc::clone(self);
            let thread = thread::Builder::new().name("closing".to_owned());
            // Where there is no thread to be had, the next one who closes something tries again.
            queue.at_work = thread.spawn(move || while closing.next().map(drop).is_some() {}).is_ok();
        }
    }

    /// The next file to close; without one, nobody is at work any more.
    fn next(&self) -> Option<File> {
        let mut queue = self.queue();
        let file = queue.files.pop();
        queue.at_work = file.is_some();
        file
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        // The end of a pipe whose writer is closed.
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
        // Its time is written before its size.
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
