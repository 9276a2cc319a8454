//! `get`: writes the first recording of a call to a file.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use audiovault_common::advice::Advice;

use super::{CommandError, announced, runtime};
use crate::{
    auth::Scope,
    config::{args::GetArgs, check},
    storage::RecordingStorage,
};

/// Why a recording could not be fetched.
#[derive(Debug, thiserror::Error)]
enum GetError {
    /// There is no recording.
    #[error("no recording found")]
    None,
    /// Not everything could be searched.
    #[error("no recording found, and some directories could not be searched")]
    Incomplete,
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file became shorter while it was read.
    #[error("the recording became shorter during the copy")]
    Shrunk,
}

impl Advice for GetError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::None => Some("`audiovault-agent search` shows which directories were searched".into()),
            Self::Incomplete => Some("the log says why".into()),
            Self::Write { .. } => None,
            Self::Shrunk => Some("try again".into()),
        }
    }
}

pub(super) async fn run(args: &GetArgs) -> Result<ExitCode, CommandError> {
    let checked = check::storage(&args.storage)?;
    let query = check::query(&args.call, &checked.settings)?;
    let storage = RecordingStorage::new(announced(checked));
    let findings = storage.find(query, Scope::Everything).await;
    let Some(found) = findings.recordings.first() else {
        return Err(runtime(if findings.complete { GetError::None } else { GetError::Incomplete }));
    };
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(found.name()));
    let copied = storage.with_open(found.root, found.path.clone(), move |open| {
        if output == Path::new("-") {
            copy(&open.file, open.size, &mut io::stdout().lock(), &output)
        } else {
            copy_to_file(&open.file, open.size, &output)
        }
    });
    copied.await.map_err(runtime)?.map_err(runtime)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes to a second file and renames it, so that an incomplete recording never has the target's name.
fn copy_to_file(from: &File, size: u64, path: &Path) -> Result<(), GetError> {
    let failed = |source| GetError::Write { path: path.to_owned(), source };
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.part", std::process::id()));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&draft).map_err(failed)?;
    let done = copy(from, size, &mut file, path)
        .and_then(|()| file.sync_all().and_then(|()| fs::rename(&draft, path)).map_err(failed));
    if done.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&draft);
    }
    done
}

fn copy(from: &File, size: u64, to: &mut dyn Write, path: &Path) -> Result<(), GetError> {
    let failed = |source| GetError::Write { path: path.to_owned(), source };
    let copied = io::copy(&mut io::Read::take(from, size), to).map_err(failed)?;
    to.flush().map_err(failed)?;
    if copied == size { Ok(()) } else { Err(GetError::Shrunk) }
}
