//! The spool: records that wait in a file on a local disk, for the next large transaction or while the database
//! is away.
//!
//! Neither a long outage nor the end of this process loses them. The file has one line of JSON for each record,
//! in their order. Records leave it when the database has them. A relay that is killed before that delivers them
//! again; the statements that write records skip those that the database already has.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::line;
use crate::store::Record;

/// The name of the file in the configured directory.
const NAME: &str = "journal.spool";
/// What follows the name of a SQLite database in the name of its spool.
const SUFFIX: &str = "-spool";
/// What follows the name of the spool in the name of the file that replaces it.
const NEXT: &str = ".next";
/// The maximum size of the file in bytes: three quarters of a million events of about 350 bytes, a busy relay's whole day.
pub const MAX_SPOOL_LEN: u64 = 256 << 20;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file cannot be opened.
    #[error("--spool-dir: cannot open {}: check the directory and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another relay has locked the file. Two relays would deliver the same records.
    #[error("--spool-dir: another relay uses {}: give each relay its own directory", .0.display())]
    InUse(PathBuf),
}

/// The file, locked for this process.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    len: u64,
    /// The position up to which all records have been delivered.
    delivered: u64,
    /// The position up to which records were read last.
    read: u64,
    records: u64,
    most: u64,
}

impl Spool {
    /// Opens the spool of a directory, with the records that an earlier run left in it. The directory is
    /// created if it is missing. The file is readable by its owner alone, and is at most `most` bytes long.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(directory: &Path, most: u64) -> Result<Self, SpoolError> {
        let path = directory.join(NAME);
        let failed = |source| SpoolError::Open { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        Self::open_file(path, most)
    }

    /// Opens the spool beside a SQLite database, as [`Spool::open`].
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open_beside(database: &Path, most: u64) -> Result<Self, SpoolError> {
        let mut path = database.as_os_str().to_owned();
        path.push(SUFFIX);
        Self::open_file(path.into(), most)
    }

    fn open_file(path: PathBuf, most: u64) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Open { path: path.clone(), source };
        let file = options().open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse(path)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mut spool = Self { path: path.clone(), file, len: 0, delivered: 0, read: 0, records: 0, most };
        spool.measure().map_err(failed)?;
        Ok(spool)
    }

    /// Finds the end of the last whole line and cuts off the rest: a process that was killed, or a full disk,
    /// leaves a part of a line.
    fn measure(&mut self) -> io::Result<()> {
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            self.len += line.len() as u64;
            self.records += 1;
            line.clear();
        }
        self.file.set_len(self.len)
    }

    /// The number of records that wait here.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Appends records, and returns for how many of them there was room. The end of this process does not lose them;
    /// the end of the machine may, until [`Spool::sync`].
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<usize> {
        let mut lines = Vec::new();
        let mut taken = 0;
        for record in records {
            let before = lines.len();
            line::write(&mut lines, record)?;
            if self.len + lines.len() as u64 > self.most {
                lines.truncate(before);
                break;
            }
            taken += 1;
        }
        self.file.seek(SeekFrom::Start(self.len))?;
        if let Err(error) = self.file.write_all(&lines) {
            // A part of a line must not be read as a record.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += lines.len() as u64;
        self.records += taken as u64;
        Ok(taken)
    }

    /// Returns when all records are on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The position behind the last record.
    pub(super) fn end(&self) -> Position {
        Position { len: self.len, records: self.records }
    }

    /// Notes that the database has all records before this position, and removes them from the file.
    pub(super) fn delivered_until(&mut self, position: Position) -> io::Result<()> {
        self.delivered = position.len;
        self.records = self.records.saturating_sub(position.records);
        if self.delivered < self.len {
            // Records came while the database wrote. A file that has only those takes the place of this one, so that
            // a relay that is killed meanwhile leaves one or the other.
            self.drop_delivered()
        } else {
            self.empty()
        }
    }

    fn drop_delivered(&mut self) -> io::Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push(NEXT);
        let mut file = options().truncate(true).open(&path)?;
        file.try_lock()?;
        self.file.seek(SeekFrom::Start(self.delivered))?;
        let len = io::copy(&mut (&self.file).take(self.len - self.delivered), &mut file)?;
        fs::rename(&path, &self.path)?;
        (self.file, self.len, self.delivered, self.read) = (file, len, 0, 0);
        Ok(())
    }

    fn empty(&mut self) -> io::Result<()> {
        (self.len, self.delivered, self.read, self.records) = (0, 0, 0, 0);
        self.file.set_len(0)
    }

    /// The next records that must be delivered, at most `most`. Returns the same ones until
    /// [`Spool::delivered`] is called.
    pub(super) fn next(&mut self, most: usize) -> io::Result<Vec<Record>> {
        self.file.seek(SeekFrom::Start(self.delivered))?;
        let mut reader = BufReader::new((&self.file).take(self.len - self.delivered));
        let mut records = Vec::new();
        let mut bytes = Vec::new();
        self.read = self.delivered;
        while records.len() < most && reader.read_until(b'\n', &mut bytes)? > 0 {
            self.read += bytes.len() as u64;
            match line::read(&bytes) {
                Ok(record) => records.push(record),
                // Another release wrote it, or the disk is damaged. The records after it must not wait for it.
                Err(error) => tracing::error!(
                    %error,
                    code = "audit_log.spool_entry_lost",
                    "an entry of the spool is unreadable and lost"
                ),
            }
            bytes.clear();
        }
        if records.is_empty() && self.read == self.len {
            self.delivered(0)?;
        }
        Ok(records)
    }

    /// Notes that the records that were read last are in the database.
    pub(super) fn delivered(&mut self, records: usize) -> io::Result<()> {
        self.delivered = self.read;
        self.records = self.records.saturating_sub(records as u64);
        if self.delivered >= self.len { self.empty() } else { Ok(()) }
    }
}

/// A position in the spool, between two records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    len: u64,
    /// The number of records before it that have not been delivered.
    pub(super) records: u64,
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;
    use crate::{model::audit::Outcome, store::Progress};

    fn records(ids: std::ops::Range<u64>) -> Vec<Record> {
        ids.map(|bytes| {
            Record::Progress(Progress {
                request_id: format!("r{bytes}"),
                bytes,
                closed: Some(Timestamp::UNIX_EPOCH),
                outcome: Outcome::Complete,
            })
        })
        .collect()
    }

    fn bytes(records: &[Record]) -> Vec<u64> {
        let bytes = |record: &Record| {
            let Record::Progress(progress) = record else { panic!("{record:?}") };
            progress.bytes
        };
        records.iter().map(bytes).collect()
    }

    #[test]
    fn records_come_out_in_their_order_and_again_until_they_are_delivered() {
        let dir = TempDir::new().unwrap();
        let mut spool = Spool::open(&dir.path().join("made"), MAX_SPOOL_LEN).unwrap();
        assert_eq!(spool.append(&records(0..5)).unwrap(), 5);
        assert_eq!(bytes(&spool.next(3).unwrap()), [0, 1, 2]);
        assert_eq!(bytes(&spool.next(3).unwrap()), [0, 1, 2]);
        spool.delivered(3).unwrap();
        spool.append(&records(5..6)).unwrap();
        assert_eq!(bytes(&spool.next(9).unwrap()), [3, 4, 5]);
        assert_eq!(spool.records(), 3);
        spool.delivered(3).unwrap();
        assert_eq!((spool.records(), spool.next(9).unwrap().len()), (0, 0));
        assert_eq!(fs::metadata(dir.path().join("made").join(NAME)).unwrap().len(), 0);
    }

    #[test]
    fn records_that_came_while_others_were_delivered_stay() {
        let dir = TempDir::new().unwrap();
        let mut spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        spool.append(&records(0..5)).unwrap();
        let first = spool.end();
        spool.append(&records(5..7)).unwrap();
        spool.delivered_until(first).unwrap();
        assert_eq!(spool.records(), 2);
        assert!(matches!(Spool::open(dir.path(), MAX_SPOOL_LEN), Err(SpoolError::InUse(_))));
        spool.append(&records(7..8)).unwrap();
        drop(spool);
        let mut spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        assert_eq!(bytes(&spool.next(9).unwrap()), [5, 6, 7]);
        spool.delivered_until(spool.end()).unwrap();
        assert_eq!((spool.records(), spool.next(9).unwrap().len()), (0, 0));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_next_run_goes_on_with_what_was_left_but_for_half_a_line() {
        let dir = TempDir::new().unwrap();
        let mut spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        spool.append(&records(0..3)).unwrap();
        assert!(matches!(Spool::open(dir.path(), MAX_SPOOL_LEN), Err(SpoolError::InUse(_))));
        drop(spool);
        let path = dir.path().join(NAME);
        let mut content = fs::read(&path).unwrap();
        content.extend_from_slice(b"{\"Progress\":{\"request_id\":\"r3");
        fs::write(&path, content).unwrap();
        let mut spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        assert_eq!(spool.records(), 3);
        spool.append(&records(4..5)).unwrap();
        assert_eq!(bytes(&spool.next(9).unwrap()), [0, 1, 2, 4]);
    }

    #[test]
    fn records_without_room_stay_with_the_caller_and_a_damaged_line_is_skipped() {
        let dir = TempDir::new().unwrap();
        let mut spool = Spool::open(dir.path(), 250).unwrap();
        let taken = spool.append(&records(0..9)).unwrap();
        assert!((1..9).contains(&taken), "{taken}");
        assert_eq!(spool.append(&records(9..10)).unwrap(), 0);
        drop(spool);
        let path = dir.path().join(NAME);
        let content = [b"nonsense\n", &fs::read(&path).unwrap()[..]].concat();
        fs::write(&path, content).unwrap();
        let mut spool = Spool::open(dir.path(), MAX_SPOOL_LEN).unwrap();
        assert_eq!(spool.next(99).unwrap().len(), taken);
        spool.delivered(taken).unwrap();
        assert!(spool.next(99).unwrap().is_empty());
    }
}
