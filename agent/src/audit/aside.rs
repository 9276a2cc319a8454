//! The rotated files of the audit log, named by the time of rotation: `audit.jsonl.20261130T084820.123Z`.
//!
//! No file is renamed twice, so with thousands of files a rotation costs no more than reading the directory. Names with
//! a number (`audit.jsonl.1` is the newest) are from agents before this naming and from logrotate; they are read and
//! removed like the others.

use std::{
    cmp::Reverse,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// The highest number that earlier agents used. Other numbers, such as dates, are not theirs.
const MAX_NUMBER: u32 = 1000;
/// The smallest difference between two names.
const STEP: Duration = Duration::from_millis(1);

/// A rotated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) path: PathBuf,
    name: Name,
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

impl Aside {
    /// When its last line was written, or a little later.
    fn time(&self) -> io::Result<SystemTime> {
        match self.name {
            Name::Time(time) => Ok(time.into()),
            Name::Number(_) => fs::metadata(&self.path)?.modified(),
        }
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
pub(super) fn put(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    loop {
        let aside = next(path, now)?;
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
pub(super) fn next(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
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
pub(super) fn prune(path: &Path, keep: u32, min_age: Duration, now: SystemTime) -> io::Result<()> {
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
            put(&path, time(now)).unwrap();
        }
        let names = names(&path);
        assert_eq!(names, ["a.20260326T101502.500Z", "a.20260326T101502.501Z", "a.20260326T101502.502Z"]);
        assert_eq!(put(&path, time("2027-01-01T00:00:00Z")).unwrap_err().kind(), io::ErrorKind::NotFound);
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
        let modified = |time| fs::File::open(dir.path().join("a.1")).unwrap().set_modified(time).unwrap();
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
