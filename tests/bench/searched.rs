//! The recording that searches look for. It is alone in its directory, so that a search costs the same in all
//! measurements of the tunnel; `archive` measures large directories.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use harness::recordings;

/// The call of the recording.
pub(crate) const CALL: &str = "1711441800.1";
const DIRECTORY: &str = "searched";

/// Writes the recording, for a directory that also has other recordings.
pub(crate) fn write(files: &Path) -> io::Result<()> {
    let directory = files.join(DIRECTORY);
    fs::create_dir(&directory)?;
    let path = directory.join(format!("in-{CALL}.wav"));
    fs::write(&path, recordings::wav(0.1, 1))?;
    File::open(path)?.set_modified(SystemTime::now() - Duration::from_secs(3600))
}

/// The arguments with which a program searches this recording's directory first, and then that of the others.
pub(crate) fn paths(files: &Path) -> [String; 4] {
    let [first, second] =
        [files.join(DIRECTORY), files.to_owned()].map(|path| format!("file:{}", path.display()));
    ["--path".to_owned(), first, "--path".to_owned(), second]
}
