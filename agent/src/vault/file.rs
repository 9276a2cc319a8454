//! The file of a recording while it is open: it knows whether it still is what it was.

use std::{
    fs::{File, Metadata},
    io,
    ops::Deref,
    time::SystemTime,
};

use super::open::is_settled;

/// An open recording's file.
#[derive(Debug)]
pub struct RecordingFile {
    file: File,
    /// Size and modification time when it was opened, where they tell one content from the next.
    content: Option<(u64, SystemTime)>,
}

impl RecordingFile {
    /// A file with what is known of it.
    pub(super) fn new(file: File, metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().filter(|at| is_settled(*at, SystemTime::now()));
        let content = modified.map(|modified| (metadata.len(), modified));
        Self { file, content }
    }

    /// Whether what was read until now is of the content that was opened: a file that was written over has another time.
    /// One that has grown has as well, but what it had it still has.
    ///
    /// # Errors
    /// What the operating system says, or that it is not.
    pub(crate) fn is_unchanged(&self) -> io::Result<()> {
        let Some((size, modified)) = self.content else { return Ok(()) };
        let now = self.metadata()?;
        if now.len() <= size && now.modified().is_ok_and(|now| now != modified) {
            return Err(io::Error::other("the file was written over while it was served"));
        }
        Ok(())
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
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;

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
        let written_over = opened();
        std::os::unix::fs::FileExt::write_at(&*written_over, b"other", 0).unwrap();
        written_over.is_unchanged().unwrap_err();
    }
}
