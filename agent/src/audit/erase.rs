//! Erases a call from the audit log, while an agent may be writing it.
//!
//! First the current file is rotated. The writer notices within a second, begins another and releases its lock, so that
//! no file that is changed here is written any more. Each file is written again next to the old one and replaces it in
//! one step: a reader, or a machine that stops in between, has either the old lines or the new ones.

use std::{
    borrow::Cow,
    fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use audiovault_common::advice::Advice;
use audiovault_protocol::recording::call::NamedCall;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    event::{Notice, bounded, line},
    rotation::{self, Aside},
};

/// How long a writer may take to release a rotated file. It checks every second, and a slow disk may delay it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the lock is tried in the meantime.
const RETRY: Duration = Duration::from_millis(50);
/// How the name of a file ends while it is being written.
const DRAFT: &str = ".erasing";

/// What to erase, and on whose order.
#[derive(Debug, Clone)]
pub struct Erasure {
    /// The call ids, including those of the other legs of the conversation.
    pub calls: Vec<NamedCall>,
    /// The user of this machine who ordered it.
    pub by: String,
    /// The reason, if one was given.
    pub reason: Option<String>,
}

/// The result of an erasure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The number of erased lines.
    pub lines: u64,
    /// The number of files that held them.
    pub files: usize,
    /// Files of the same name that the audit log did not make, such as those that logrotate has compressed. They were
    /// not read.
    pub left_alone: Vec<PathBuf>,
}

/// Why an erasure failed or is incomplete. What was erased stays erased; no other line is lost.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The directory or one of its files cannot be read or written.
    #[error("cannot change {}", path.display())]
    Failed {
        /// The file or the directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The writer did not release its file.
    #[error("the agent still writes {}, after {} s", .0.display(), RELEASE_TIMEOUT.as_secs())]
    Busy(PathBuf),
}

impl Advice for EraseError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Failed { .. } => "run this as root, or as the user of the agent".into(),
            Self::Busy(_) => "check it with audiovault-agent status, or stop it, and then try again".into(),
        })
    }
}

/// Removes every line about these calls from all files of the audit log at `path`, and adds one line that says so,
/// without their ids. Blocks.
///
/// # Errors
/// [`EraseError`].
pub fn erase(path: &Path, erasure: &Erasure) -> Result<Erased, EraseError> {
    let failed = |source| EraseError::Failed { path: path.to_owned(), source };
    let newest = match rotation::put_aside(path, Timestamp::now()) {
        Ok(newest) => Some(newest),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let mut erased = Erased { lines: 0, files: 0, left_alone: left_alone(path).map_err(failed)? };
    // The newest is the last: its line has the number of erased lines of all files.
    for Aside { path, .. } in rotation::list(path).map_err(failed)? {
        let failed = |source| EraseError::Failed { path: path.clone(), source };
        let Some(file) = take(&path)? else { continue };
        let last = newest.as_ref() == Some(&path);
        let gone = rewrite(&path, &file, erasure, last.then_some(erased.lines)).map_err(failed)?;
        erased.lines += gone;
        erased.files += usize::from(gone > 0);
    }
    if newest.is_none() {
        let name = rotation::next_name(path, Timestamp::now()).map_err(failed)?;
        begin(&name, &said(erasure, erased.lines)).map_err(failed)?;
    }
    Ok(erased)
}

/// Creates a file with one line, for the owner of the directory to read.
fn begin(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    give(&file, &fs::metadata(rotation::directory(path))?)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// Gives the file the same owner and group as another, if they differ.
fn give(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (like.uid(), like.gid()) {
        return Ok(());
    }
    fchown(file, Some(like.uid()), Some(like.gid()))
}

/// The line about an erasure.
fn said(erasure: &Erasure, count: u64) -> String {
    line(&Notice::Erased {
        time: Timestamp::now(),
        count,
        by: bounded(&erasure.by),
        reason: erasure.reason.as_deref().map(bounded),
    })
}

/// Waits until this process alone has the file. `None` if the file is gone.
fn take(path: &Path) -> Result<Option<File>, EraseError> {
    let failed = |source| EraseError::Failed { path: path.to_owned(), source };
    let began = Instant::now();
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < RELEASE_TIMEOUT => {
                thread::sleep(RETRY);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(EraseError::Busy(path.to_owned())),
            // Some network file systems have no locks; there too the writer has released the file within a second.
            Err(TryLockError::Error(_)) => thread::sleep(Duration::from_secs(2)),
            Ok(()) => {}
        }
        // Another erasure may have replaced the file before this one got the lock.
        let here = file.metadata().map_err(failed)?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (here.dev(), here.ino()) => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Writes a file again without the lines about the calls, and returns their number. The last file also gets a line with
/// the number of erased lines in all files; `before` of them were in the other files.
fn rewrite(path: &Path, file: &File, erasure: &Erasure, before: Option<u64>) -> io::Result<u64> {
    // Most files have no line about the call; they are read once and stay as they are.
    if before.is_none() && copy(&mut BufReader::new(file), &mut io::sink(), &erasure.calls)? == 0 {
        return Ok(0);
    }
    let mut from = file;
    from.rewind()?;
    let metadata = file.metadata()?;
    let mut name = path.as_os_str().to_owned();
    name.push(DRAFT);
    let draft = PathBuf::from(name);
    let mut options = OpenOptions::new();
    let new = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written = (|| {
        new.set_permissions(Permissions::from_mode(metadata.mode() & 0o777))?;
        give(&new, &metadata)?;
        let mut writer = BufWriter::new(&new);
        let gone = copy(&mut BufReader::new(from), &mut writer, &erasure.calls)?;
        if let Some(before) = before {
            writer.write_all(said(erasure, before + gone).as_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        // The age of a file with a number in its name is its modification time, so keep it.
        new.set_modified(metadata.modified()?)?;
        new.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(rotation::directory(path))?.sync_all()?;
        Ok(gone)
    })();
    if written.is_err() {
        // After any error the old file is still there and complete.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn copy(from: &mut impl BufRead, to: &mut impl Write, calls: &[NamedCall]) -> io::Result<u64> {
    let mut gone = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        if from.read_until(b'\n', &mut text)? == 0 {
            return Ok(gone);
        }
        if is_about(&text, calls) {
            gone += 1;
        } else {
            to.write_all(&text)?;
            if text.last() != Some(&b'\n') {
                to.write_all(b"\n")?;
            }
        }
    }
}

/// Whether a line is about one of the calls.
fn is_about(text: &[u8], calls: &[NamedCall]) -> bool {
    let Ok(line) = serde_json::from_slice::<Map<String, Value>>(text) else {
        // A line that a crash tore has no fields, so search its text.
        let text = String::from_utf8_lossy(text);
        return calls.iter().any(|call| call.stands_in(&text));
    };
    let field = |name: &str| line.get(name).and_then(Value::as_str);
    calls.iter().any(|call| call.is_subject_of(field("call_id"), field("recording")))
}

/// Files whose names begin like the audit log's, but which the audit log did not make.
fn left_alone(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name() else { return Ok(Vec::new()) };
    let ours = rotation::list(path)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(rotation::directory(path))? {
        let entry = entry?;
        let there = entry.file_name();
        let rest = there.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let begins = rest.is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'-')));
        let draft = there.as_encoded_bytes().ends_with(DRAFT.as_bytes());
        if begins && !draft && ours.iter().all(|aside| aside.path != entry.path()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::audit::rotation::{AuditLogSettings, RotatedFile};

    fn erasure(ids: &[&str]) -> Erasure {
        let calls = ids.iter().map(|id| NamedCall::new(id)).collect();
        Erasure { calls, by: "root".to_owned(), reason: Some("asked".to_owned()) }
    }

    fn row(call: &str, recording: &str) -> String {
        format!("{{\"kind\":\"delivery\",\"call_id\":\"{call}\",\"recording\":\"{recording}\"}}\n")
    }

    fn contents(path: &Path) -> Vec<String> {
        let mut files: Vec<_> = rotation::list(path).unwrap().into_iter().map(|aside| aside.path).collect();
        files.extend(path.exists().then(|| path.to_owned()));
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    #[test]
    fn every_file_forgets_the_call_keeps_all_else_and_says_so() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("audit.jsonl");
        let other = row("1772705400.9", "a.wav");
        let old = dir.path().join("audit.jsonl.1");
        fs::write(&old, [row("pbx1-1772705472_1", "b.wav"), other.clone()].concat()).unwrap();
        File::open(&old).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let untouched = dir.path().join("audit.jsonl.20260101T000000.000Z");
        fs::write(&untouched, &other).unwrap();
        let inode = fs::metadata(&untouched).unwrap().ino();
        let torn = "{\"call_id\":\"1772705472.1";
        fs::write(
            &path,
            [other.clone(), row("1772705400.8", "in-1772705472_1.wav"), torn.to_owned()].concat(),
        )
        .unwrap();
        fs::write(dir.path().join("audit.jsonl.2.gz"), "").unwrap();
        let erased = erase(&path, &erasure(&["1772705472.1"])).unwrap();
        assert_eq!((erased.lines, erased.files), (3, 2));
        assert_eq!(erased.left_alone, [dir.path().join("audit.jsonl.2.gz")]);
        let files = contents(&path);
        assert_eq!(files[..2], [other.clone(), other.clone()]);
        let said = files[2].strip_prefix(&*other).unwrap();
        assert!(
            said.starts_with("{\"kind\":\"erased\"") && said.contains("\"count\":3,\"by\":\"root\""),
            "{said}"
        );
        assert!(!files.concat().contains("1772705472"), "{files:?}");
        assert_eq!(fs::metadata(&old).unwrap().modified().unwrap(), std::time::UNIX_EPOCH);
        assert_eq!(fs::metadata(&untouched).unwrap().ino(), inode);
        assert!(!path.exists(), "the next line begins another file");
        // Also when no agent is writing at the moment.
        assert_eq!(erase(&path, &erasure(&["1772705400.9"])).unwrap().lines, 3);
        assert_eq!(contents(&path).concat().matches("erased").count(), 2);
    }

    #[test]
    fn a_writer_that_works_loses_no_line() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("audit.jsonl");
        let settings = AuditLogSettings { limit: Some(4096), ..AuditLogSettings::new(path.clone()) };
        let mut file = RotatedFile::open(&settings).unwrap();
        let writer = thread::spawn(move || {
            for number in 0..2000 {
                file.follow().unwrap();
                let call =
                    if number % 10 == 0 { "1772705472.1".to_owned() } else { format!("1772705400.{number}") };
                file.append(&row(&call, "")).unwrap();
                thread::sleep(Duration::from_micros(200));
            }
        });
        while !writer.is_finished() {
            erase(&path, &erasure(&["1772705472.1"])).unwrap();
        }
        writer.join().unwrap();
        erase(&path, &erasure(&["1772705472.1"])).unwrap();
        let lines = contents(&path).concat();
        assert_eq!(lines.lines().filter(|line| line.contains("delivery")).count(), 1800);
        assert!(!lines.contains("1772705472.1"));
        let counted = lines.lines().filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["count"].as_u64()
        });
        assert_eq!(counted.sum::<u64>(), 200);
    }
}
