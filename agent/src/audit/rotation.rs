//! The files of the audit log: the current one, `audit.jsonl`, which is rotated when it is full, and the rotated ones,
//! named by the time of rotation: `audit.jsonl.20261130T084820.123Z`.
//!
//! No file is renamed twice, so with thousands of files a rotation costs no more than reading the directory. Names with
//! a number (`audit.jsonl.1` is the newest) are from agents before this naming and from logrotate; they are read and
//! removed like the others.
//!
//! This is written here because the existing crates panic when a file was moved away, or keep writing to nowhere when a
//! file cannot be opened.

use std::{
    borrow::Cow,
    cmp::Reverse,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use audiovault_common::advice::Advice;
use jiff::Timestamp;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// How long lines are kept by default: the longest time after which an abuse is usually noticed.
const MIN_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The highest number that earlier agents used. Other numbers, such as dates, are not theirs.
const MAX_NUMBER: u32 = 1000;
/// The smallest difference between two names.
const STEP: Duration = Duration::from_millis(1);

/// Where and how long the audit log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLogSettings {
    /// The file that is written.
    pub path: PathBuf,
    /// Bytes after which a new file is begun; `None` leaves rotation to other programs, such as logrotate.
    pub limit: Option<u64>,
    /// How many old files are kept, regardless of their age.
    pub keep: u32,
    /// How long every line is kept at least, regardless of the total size.
    pub min_age: Duration,
    /// Bytes that the disk should have free. With less, there is an alarm.
    pub min_free: u64,
}

impl AuditLogSettings {
    /// An audit log in this file, which is never rotated by size.
    pub fn new(path: PathBuf) -> Self {
        Self { path, limit: None, keep: 1, min_age: MIN_AGE, min_free: 0 }
    }
}

/// Why the audit log cannot be written now.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogError {
    /// The file cannot be opened.
    #[error("cannot open the audit log {}", .0.display())]
    Open(PathBuf, #[source] io::Error),
    /// Another program writes the file.
    #[error("another process writes the audit log {}", .0.display())]
    Shared(PathBuf),
    /// The file cannot be written.
    #[error("the audit log {} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// The file is full and cannot be renamed.
    #[error("cannot rename the audit log {} to begin a new file", .0.display())]
    Rotate(PathBuf, #[source] io::Error),
    /// An old file cannot be removed.
    #[error("cannot remove old files of the audit log {}", .0.display())]
    Prune(PathBuf, #[source] io::Error),
}

impl Advice for AuditLogError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Shared(_) => Some("give each process a file of its own".into()),
            Self::Open(..) | Self::Write(..) | Self::Rotate(..) | Self::Prune(..) => None,
        }
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct RotatedFile {
    settings: AuditLogSettings,
    file: File,
    len: u64,
    identity: (u64, u64),
}

impl RotatedFile {
    /// Opens the file, or creates it, readable by its owner alone. A last line that a crash tore is ended.
    ///
    /// # Errors
    /// [`AuditLogError::Open`] and [`AuditLogError::Shared`].
    pub(super) fn open(settings: &AuditLogSettings) -> Result<Self, AuditLogError> {
        let path = &settings.path;
        let failed = |error| AuditLogError::Open(path.clone(), error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(AuditLogError::Shared(path.clone())),
            // Some network file systems have no locks; there a second writer is not detected.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let metadata = file.metadata().map_err(failed)?;
        let mut len = metadata.len();
        if len > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(failed)?;
            if last != *b"\n" {
                file.write_all(b"\n").map_err(failed)?;
                len += 1;
            }
        }
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { settings: settings.clone(), file, len, identity })
    }

    /// Opens a new file if the old one was moved away or removed, and notices if it was truncated.
    ///
    /// # Errors
    /// As [`RotatedFile::open`].
    pub(super) fn follow(&mut self) -> Result<(), AuditLogError> {
        match fs::metadata(&self.settings.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => self.len = metadata.len(),
            Ok(_) | Err(_) => *self = Self::open(&self.settings)?,
        }
        Ok(())
    }

    /// Writes one line, in a new file if this one is full. A line is written whole or not at all. Returns true if a new
    /// file was begun.
    ///
    /// # Errors
    /// [`AuditLogError`].
    pub(super) fn append(&mut self, line: &str) -> Result<bool, AuditLogError> {
        let after = self.len + line.len() as u64;
        let full = self.len > 0 && self.settings.limit.is_some_and(|limit| after > limit);
        if full {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // If truncating fails too, the partial line is ended when the file is opened again.
            let _ = self.file.set_len(self.len);
            return Err(AuditLogError::Write(self.settings.path.clone(), error));
        }
        self.len += line.len() as u64;
        Ok(full)
    }

    fn rotate(&mut self) -> Result<(), AuditLogError> {
        let path = &self.settings.path;
        match put_aside(path, Timestamp::now()) {
            // Another program has just moved it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            put => drop(put.map_err(|error| AuditLogError::Rotate(path.clone(), error))?),
        }
        *self = Self::open(&self.settings)?;
        Ok(())
    }

    /// Removes old files that need not be kept any longer.
    ///
    /// # Errors
    /// [`AuditLogError::Prune`].
    pub(super) fn prune(&self) -> Result<(), AuditLogError> {
        let AuditLogSettings { path, limit, keep, min_age, .. } = &self.settings;
        if limit.is_none() {
            return Ok(());
        }
        let pruned = prune(path, *keep, *min_age, SystemTime::now());
        pruned.map_err(|error| AuditLogError::Prune(path.clone(), error))
    }
}

/// A rotated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) path: PathBuf,
    name: Name,
}

impl Aside {
    /// When its last line was written, or a little later.
    fn time(&self) -> io::Result<SystemTime> {
        match self.name {
            Name::Time(time) => Ok(time.into()),
            Name::Number(_) => fs::metadata(&self.path)?.modified(),
        }
    }
}

/// What follows the audit log's own name. The order is by age, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Number(Reverse<u32>),
    Time(Timestamp),
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u32>() {
            let ours = number <= MAX_NUMBER && number.to_string() == text;
            return ours.then_some(Self::Number(Reverse(number)));
        }
        let time = text.parse::<Timestamp>().ok()?;
        (written(time) == text).then_some(Self::Time(time))
    }
}

/// Lists all rotated files, oldest first.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn list(path: &Path) -> io::Result<Vec<Aside>> {
    let Some(mut prefix) = path.file_name().map(OsString::from) else { return Ok(Vec::new()) };
    prefix.push(".");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let name = rest.and_then(|rest| std::str::from_utf8(rest).ok()).and_then(Name::parse);
        found.extend(name.map(|name| Aside { path: entry.path(), name }));
    }
    found.sort_by_key(|aside| aside.name);
    Ok(found)
}

/// Renames the file under a name later than all others, even if the clock has gone back.
///
/// # Errors
/// If the directory cannot be read or the file cannot be renamed.
pub(super) fn put_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    loop {
        let aside = next_name(path, now)?;
        match renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(aside),
            // The writer and an erasure have chosen the same name; try the next one.
            Err(Errno::EXIST) => {}
            // Some network file systems cannot refuse to replace a file.
            Err(Errno::INVAL | Errno::NOSYS) => return fs::rename(path, &aside).map(|()| aside),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The name of the next rotated file.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn next_name(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let newest = list(path)?.last().map(|aside| aside.name);
    let now = now.round(jiff::Unit::Millisecond).unwrap_or(now);
    let time = match newest {
        Some(Name::Time(newest)) if newest >= now => newest.saturating_add(STEP).unwrap_or(newest),
        _ => now,
    };
    let mut name = OsString::from(path);
    name.push(format!(".{}", written(time)));
    Ok(name.into())
}

/// Removes the oldest files until `keep` are left, but never one with lines younger than `min_age`.
///
/// # Errors
/// If the directory cannot be read or a file cannot be removed.
fn prune(path: &Path, keep: u32, min_age: Duration, now: SystemTime) -> io::Result<()> {
    let asides = list(path)?;
    let more = asides.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    for aside in asides.iter().take(more) {
        // A name may be a little later than the clock, because all names must differ.
        if now.duration_since(aside.time()?).unwrap_or_default() >= min_age {
            fs::remove_file(&aside.path)?;
        }
    }
    Ok(())
}

/// The directory of a file.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn written(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(path: &Path) -> Vec<String> {
        let names = list(path).unwrap();
        names.iter().map(|aside| aside.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn settings(dir: &TempDir, limit: u64, keep: u32) -> AuditLogSettings {
        let path = dir.path().join("audit.jsonl");
        AuditLogSettings { limit: Some(limit), keep, min_age: Duration::ZERO, ..AuditLogSettings::new(path) }
    }

    /// The contents of the files, oldest first.
    fn contents(settings: &AuditLogSettings) -> Vec<String> {
        let old = list(&settings.path).unwrap().into_iter().map(|aside| aside.path);
        old.chain([settings.path.clone()]).map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn files_are_full_and_old_ones_go() {
        let dir = TempDir::new().unwrap();
        let settings = settings(&dir, 8, 2);
        let mut file = RotatedFile::open(&settings).unwrap();
        assert_eq!(settings.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let begun: Vec<bool> = (0..7).map(|number| file.append(&format!("ln{number}\n")).unwrap()).collect();
        assert_eq!(begun, [false, false, true, false, true, false, true]);
        file.prune().unwrap();
        assert_eq!(contents(&settings), ["ln2\nln3\n", "ln4\nln5\n", "ln6\n"]);
        file.append("a line longer than a file\n").unwrap();
        file.prune().unwrap();
        assert_eq!(contents(&settings), ["ln4\nln5\n", "ln6\n", "a line longer than a file\n"]);
    }

    #[test]
    fn nothing_young_goes_however_much_is_written() {
        let dir = TempDir::new().unwrap();
        let settings = AuditLogSettings { min_age: MIN_AGE, ..settings(&dir, 8, 2) };
        let mut file = RotatedFile::open(&settings).unwrap();
        for number in 0..100 {
            file.append(&format!("ln{number:02}\n")).unwrap();
            file.prune().unwrap();
        }
        let lines = contents(&settings).concat();
        assert_eq!(lines.lines().count(), 100);
        assert!(lines.starts_with("ln00\nln01\n") && lines.ends_with("ln98\nln99\n"));
    }

    #[test]
    fn a_restart_goes_on_where_it_was_and_ends_a_torn_line() {
        let dir = TempDir::new().unwrap();
        let settings = settings(&dir, 12, 2);
        fs::write(&settings.path, "ln0\nto").unwrap();
        let mut file = RotatedFile::open(&settings).unwrap();
        file.append("ln1\n").unwrap();
        drop(file);
        let mut file = RotatedFile::open(&settings).unwrap();
        file.append("ln2\n").unwrap();
        assert_eq!(contents(&settings), ["ln0\nto\nln1\n", "ln2\n"]);
    }

    #[test]
    fn files_of_agents_before_are_the_oldest() {
        let dir = TempDir::new().unwrap();
        let many = settings(&dir, 4, 5);
        for number in [1, 2, 4, 5] {
            fs::write(dir.path().join(format!("audit.jsonl.{number}")), format!("old{number}\n")).unwrap();
        }
        let mut file = RotatedFile::open(&many).unwrap();
        file.append("ln0\n").unwrap();
        file.append("ln1\n").unwrap();
        file.append("ln2\n").unwrap();
        file.prune().unwrap();
        assert_eq!(contents(&many), ["old4\n", "old2\n", "old1\n", "ln0\n", "ln1\n", "ln2\n"]);
        drop(file);
        let file = RotatedFile::open(&settings(&dir, 4, 1)).unwrap();
        file.prune().unwrap();
        assert_eq!(contents(&many), ["ln1\n", "ln2\n"]);
    }

    #[test]
    fn a_file_that_was_moved_away_removed_or_cut_short_is_followed() {
        let dir = TempDir::new().unwrap();
        let settings = settings(&dir, 1000, 1);
        let mut file = RotatedFile::open(&settings).unwrap();
        file.append("ln0\n").unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&settings.path, &moved).unwrap();
        file.follow().unwrap();
        file.append("ln1\n").unwrap();
        assert_eq!(
            (fs::read_to_string(&moved).unwrap(), contents(&settings)),
            ("ln0\n".into(), vec!["ln1\n".into()])
        );
        fs::remove_file(&settings.path).unwrap();
        file.follow().unwrap();
        file.append("ln2\n").unwrap();
        File::options().write(true).open(&settings.path).unwrap().set_len(0).unwrap();
        file.follow().unwrap();
        assert_eq!(file.len, 0);
        file.append("ln3\n").unwrap();
        assert_eq!(contents(&settings), ["ln3\n"]);
    }

    #[test]
    fn two_writers_are_one_too_many() {
        let dir = TempDir::new().unwrap();
        let settings = settings(&dir, 1000, 1);
        let first = RotatedFile::open(&settings).unwrap();
        assert!(matches!(RotatedFile::open(&settings), Err(AuditLogError::Shared(_))));
        drop(first);
        RotatedFile::open(&settings).unwrap();
    }

    #[test]
    fn the_order_is_that_of_age_and_other_names_are_left_alone() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        let ours = ["a.11", "a.2", "a.1", "a.20240101T000000.000Z", "a.20260326T101502.500Z"];
        let others = ["a", "b.1", "a.1.gz", "a.01", "a.-1", "a.2026", "a.20260326T101502Z", "a.new", "a."];
        for name in ours.iter().chain(&others) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(names(&path), ours);
    }

    #[test]
    fn no_name_comes_before_another_although_the_clock_stands_still_or_goes_back() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        for now in ["2026-03-26T10:15:02.5Z", "2026-03-26T10:15:02.5Z", "2024-01-01T00:00:00Z"] {
            fs::write(&path, now).unwrap();
            put_aside(&path, time(now)).unwrap();
        }
        let names = names(&path);
        assert_eq!(names, ["a.20260326T101502.500Z", "a.20260326T101502.501Z", "a.20260326T101502.502Z"]);
        assert_eq!(
            put_aside(&path, time("2027-01-01T00:00:00Z")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn what_is_young_stays_however_much_it_is() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        fs::write(dir.path().join("a.1"), "").unwrap();
        for hour in 0..5 {
            fs::write(dir.path().join(format!("a.20260326T{hour:02}0000.000Z")), "").unwrap();
        }
        let now = SystemTime::from(time("2026-03-26T05:00:00Z"));
        let modified = |time| File::open(dir.path().join("a.1")).unwrap().set_modified(time).unwrap();
        modified(now);
        prune(&path, 1, 4 * HOUR, now).unwrap();
        assert_eq!(names(&path).len(), 4, "the first two of those with times are old enough");
        modified(now - 4 * HOUR);
        prune(&path, 1, 4 * HOUR, now).unwrap();
        assert_eq!(
            names(&path),
            ["a.20260326T020000.000Z", "a.20260326T030000.000Z", "a.20260326T040000.000Z"]
        );
        prune(&path, 1, Duration::ZERO, now).unwrap();
        assert_eq!(names(&path), ["a.20260326T040000.000Z"]);
    }
}
