//! The index on disk: one redb file for each root.
//!
//! `names` has every name under each of its tokens, `directories` has the state of each directory when it was read, and
//! `files` has the names that are stored for each directory. So when a directory is read again, only the changes are
//! written.

use std::{
    borrow::Cow,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use audiovault_common::advice::Advice;
use redb::{AccessGuard, Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Key: token, directory and name; each name is stored under each of its tokens, see [`name_key`].
const NAMES: TableDefinition<&[u8], ()> = TableDefinition::new("names");
/// From directory and digest of a name to its tokens, for names that have tokens.
const FILES: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("files");
/// From the path of a directory to what is known about it, as JSON.
const DIRECTORIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("folders");
/// From the number of a directory to its path.
const PATHS: TableDefinition<u32, &[u8]> = TableDefinition::new("paths");
/// For which configuration the index was built.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");

/// The version of the format. It changes whenever the tables or the tokens change.
const FORMAT: &str = "1";
/// Bytes that redb may keep in memory: far less than the index of a large archive, and more than it needs to be fast.
const CACHE: usize = 8 << 20;

/// Why an index cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory or file cannot be created or read.
    #[error("cannot use the index in {}", .0.display())]
    Unusable(PathBuf, #[source] io::Error),
    /// Another process has it open.
    #[error("another process uses the index {}", .0.display())]
    Kept(PathBuf),
    /// The database reported an error.
    #[error("the index failed")]
    Failed(#[source] Box<redb::Error>),
    /// A record in the file is not valid.
    #[error("the index contains an invalid record")]
    Garbled,
}

impl Advice for StoreError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unusable(..) => Some("check that the agent's user may write there".into()),
            Self::Kept(_) => Some("give each agent a directory of its own".into()),
            Self::Failed(_) | Self::Garbled => None,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// The state of a directory when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectoryRow {
    /// The number of the directory.
    pub(super) id: u32,
    /// Its modification time, by the clock of its file system, in nanoseconds since the Unix epoch.
    pub(super) modified: i128,
    /// When this modification time was first seen, by this machine's clock, in nanoseconds since the Unix epoch.
    pub(super) first_seen: i128,
    /// Whether its next change will show in its modification time.
    pub(super) settled: bool,
    /// Names of its subdirectories, as bytes.
    pub(super) below: Vec<Vec<u8>>,
}

/// An index.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    /// Opens the index file for this configuration. Starts a new file if it is for another configuration or damaged.
    /// Reads the whole file. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged file is not an error.
    pub(super) fn open(file: &Path, about: &str) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::Unusable(file.to_owned(), error);
        let directory = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(unusable)?;
        match guarded(|| Self::try_open(file, about)) {
            Ok(Some(store)) => return Ok(store),
            Ok(None) => {
                tracing::info!(
                    file = %file.display(),
                    code = "index.rebuilding",
                    "the index is for another configuration; rebuilding it"
                );
            }
            Err(error @ (StoreError::Unusable(..) | StoreError::Kept(_))) => return Err(error),
            Err(StoreError::Failed(error)) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => {
                return Err(StoreError::Kept(file.to_owned()));
            }
            Err(StoreError::Failed(error)) if is_trouble(&error) => {
                return Err(unusable(io::Error::other(error)));
            }
            Err(StoreError::Failed(_) | StoreError::Garbled) => {
                tracing::warn!(
                    file = %file.display(),
                    code = "index.damaged",
                    "the index is damaged; rebuilding it"
                );
            }
        }
        fs::remove_file(file).map_err(unusable)?;
        Self::try_open(file, about)?.ok_or(StoreError::Garbled)
    }

    fn try_open(file: &Path, about: &str) -> Result<Option<Self>, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create(file)?;
        // File names contain telephone numbers.
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))
            .map_err(|error| StoreError::Unusable(file.to_owned(), error))?;
        let store = Self { database };
        let about = format!("{FORMAT} {about}");
        let writing = store.database.begin_write()?;
        let fits = {
            let mut table = writing.open_table(ABOUT)?;
            let known = table.get("about")?.map(|known| known.value().to_owned());
            if known.is_none() {
                table.insert("about", about.as_str())?;
            }
            known.is_none_or(|known| known == about)
        };
        writing.open_table(NAMES)?;
        writing.open_table(FILES)?;
        writing.open_table(DIRECTORIES)?;
        writing.open_table(PATHS)?;
        writing.commit()?;
        Ok(fits.then_some(store))
    }

    /// Begins to read a snapshot of the index.
    pub(super) fn reading(&self) -> Result<Reading, StoreError> {
        Ok(Reading { transaction: self.database.begin_read()? })
    }

    /// The first number that is not used; all higher numbers are free too.
    pub(super) fn free_number(&self) -> Result<u32, StoreError> {
        let paths = self.database.begin_read()?.open_table(PATHS)?;
        let last = paths.last()?.map(|(number, _)| number.value());
        last.map_or(Ok(0), |last| last.checked_add(1).ok_or(StoreError::Garbled))
    }

    /// Applies a change, and writes it to disk.
    pub(super) fn apply(&self, change: Change) -> Result<(), StoreError> {
        let Change { mut names, mut files, taken_out, directories, forgotten, scanned } = change;
        // In the order of the tables, so that each page is written once.
        names.sort_unstable();
        files.sort_unstable();
        let transaction = self.database.begin_write()?;
        {
            let mut by_token = transaction.open_table(NAMES)?;
            let mut by_folder = transaction.open_table(FILES)?;
            for key in &names {
                by_token.insert(key.as_slice(), ())?;
            }
            for (file, tokens) in &files {
                by_folder.insert(file, tokens.as_slice())?;
            }
            for file in taken_out {
                take_out(&mut by_token, &mut by_folder, file)?;
            }
            let mut known = transaction.open_table(DIRECTORIES)?;
            let mut paths = transaction.open_table(PATHS)?;
            for (path, directory) in directories {
                let record = serde_json::to_vec(&directory).map_err(|_| StoreError::Garbled)?;
                known.insert(path.as_os_str().as_bytes(), record.as_slice())?;
                paths.insert(directory.id, path.as_os_str().as_bytes())?;
            }
            for (path, number) in forgotten {
                known.remove(path.as_os_str().as_bytes())?;
                paths.remove(number)?;
            }
            if let Some(began) = scanned {
                transaction.open_table(ABOUT)?.insert("scanned", began.to_string().as_str())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

/// Removes a file from both tables.
fn take_out(
    names: &mut Table<'_, &'static [u8], ()>,
    files: &mut Table<'_, (u32, u64), &'static [u8]>,
    (directory, gone): (u32, u64),
) -> Result<(), StoreError> {
    let tokens = files.remove((directory, gone))?.map(|tokens| tokens.value().to_owned());
    let mut rest = tokens.as_deref().unwrap_or_default();
    while let Some((len, behind)) = rest.split_first() {
        let (token, behind) = behind.split_at_checked((*len).into()).ok_or(StoreError::Garbled)?;
        let first = name_key(token, directory, b"");
        let mut key = None;
        for entry in names.range(first.as_slice()..)? {
            let found = entry?.0;
            let Some(name) = found.value().strip_prefix(first.as_slice()) else { break };
            if digest(name) == gone {
                key = Some(found.value().to_owned());
                break;
            }
        }
        if let Some(key) = key {
            names.remove(key.as_slice())?;
        }
        rest = behind;
    }
    Ok(())
}

/// A set of changes, applied in one transaction.
#[derive(Debug, Default)]
pub(super) struct Change {
    names: Vec<Vec<u8>>,
    files: Vec<((u32, u64), Vec<u8>)>,
    taken_out: Vec<(u32, u64)>,
    directories: Vec<(PathBuf, DirectoryRow)>,
    forgotten: Vec<(PathBuf, u32)>,
    scanned: Option<i128>,
}

impl Change {
    /// How many names the change adds and removes.
    pub(super) fn len(&self) -> usize {
        self.files.len() + self.taken_out.len()
    }

    /// Adds a name of a directory under its tokens.
    pub(super) fn file(&mut self, directory: u32, name: &[u8], tokens: &[Vec<u8>]) {
        self.names.extend(tokens.iter().map(|token| name_key(token, directory, name)));
        let listed = tokens.iter().flat_map(|token| token_key(token)).collect();
        self.files.push(((directory, digest(name)), listed));
    }

    /// Removes a name of a directory, by its digest.
    pub(super) fn take_out(&mut self, directory: u32, gone: u64) {
        self.taken_out.push((directory, gone));
    }

    /// Stores the state of a directory.
    pub(super) fn remember(&mut self, path: &Path, directory: DirectoryRow) {
        self.directories.push((path.to_owned(), directory));
    }

    /// Removes a directory. Its names are removed separately.
    pub(super) fn forget(&mut self, path: PathBuf, number: u32) {
        self.forgotten.push((path, number));
    }

    /// Stores that a complete scan began at this time, in nanoseconds since the Unix epoch.
    pub(super) fn note_scan(&mut self, began: i128) {
        self.scanned = Some(began);
    }
}

/// Reads from the database. A damaged file can make the reader panic; this returns an error instead.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(StoreError::Garbled))
}

/// Whether the error comes from the disk or a permission, and not from a damaged file.
fn is_trouble(error: &redb::Error) -> bool {
    let damage = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    matches!(error, redb::Error::Io(error) if !damage.contains(&error.kind()))
}

/// A snapshot of the index.
pub(super) struct Reading {
    transaction: ReadTransaction,
}

impl Reading {
    /// The paths of all files that are stored under a token and pass `wanted`, by directory and name.
    pub(super) fn filed(
        &self,
        token: &[u8],
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let names = self.transaction.open_table(NAMES)?;
        let paths = self.transaction.open_table(PATHS)?;
        let first = token_key(token);
        let mut found = Vec::new();
        for entry in names.range(first.as_slice()..)? {
            let (key, ()) = entry.map(|(key, value)| (key, value.value()))?;
            let Some(rest) = key.value().strip_prefix(first.as_slice()) else { break };
            let (directory, name) = rest.split_first_chunk::<4>().ok_or(StoreError::Garbled)?;
            if wanted(name) {
                let directory = paths.get(u32::from_be_bytes(*directory))?.ok_or(StoreError::Garbled)?;
                found.push(path_of(directory.value()).join(OsStr::from_bytes(name)));
            }
        }
        Ok(found)
    }

    /// What is known about a directory.
    pub(super) fn directory(&self, path: &Path) -> Result<Option<DirectoryRow>, StoreError> {
        let directories = self.transaction.open_table(DIRECTORIES)?;
        let record = directories.get(path.as_os_str().as_bytes())?;
        record.map(|record| directory_of(record.value())).transpose()
    }

    /// When the last complete scan began, in nanoseconds since the Unix epoch; `None` before the first one has
    /// finished.
    pub(super) fn scanned(&self) -> Result<Option<i128>, StoreError> {
        let about = self.transaction.open_table(ABOUT)?;
        let text = about.get("scanned")?.map(|text| text.value().to_owned());
        text.map(|text| text.parse().map_err(|_| StoreError::Garbled)).transpose()
    }

    /// The numbers and paths of all directories.
    pub(super) fn directories(&self) -> Result<Vec<(u32, PathBuf)>, StoreError> {
        let paths = self.transaction.open_table(PATHS)?;
        let entries = paths.range::<u32>(..)?;
        let directory = |entry: Result<(_, _), _>| {
            let (number, path): (AccessGuard<'_, u32>, AccessGuard<'_, &[u8]>) = entry?;
            Ok((number.value(), path_of(path.value())))
        };
        entries.map(directory).collect()
    }

    /// The path of every stored name.
    #[cfg(test)]
    pub(super) fn listed(&self) -> Vec<PathBuf> {
        let names = self.transaction.open_table(NAMES).unwrap();
        let paths = self.transaction.open_table(PATHS).unwrap();
        let path = |key: &[u8]| {
            let (directory, name) = key[usize::from(key[0]) + 1..].split_first_chunk::<4>().unwrap();
            let directory = paths.get(u32::from_be_bytes(*directory)).unwrap().unwrap();
            path_of(directory.value()).join(OsStr::from_bytes(name))
        };
        names.range::<&[u8]>(..).unwrap().map(|entry| path(entry.unwrap().0.value())).collect()
    }

    /// The digests of the names that are stored for a directory, in order.
    pub(super) fn digests(&self, directory: u32) -> Result<Vec<u64>, StoreError> {
        let files = self.transaction.open_table(FILES)?;
        let entries = files.range((directory, 0)..=(directory, u64::MAX))?;
        entries.map(|entry| Ok(entry?.0.value().1)).collect()
    }
}

/// The first 64 bits of a name's SHA-256 digest. It must be the same in every version of this program.
pub(super) fn digest(name: &[u8]) -> u64 {
    let whole: [u8; 32] = Sha256::digest(name).into();
    whole.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

/// The length of a token, and the token. With the length, no key is the beginning of another token's key.
fn token_key(token: &[u8]) -> Vec<u8> {
    let token = token.get(..usize::from(u8::MAX)).unwrap_or(token);
    let len = u8::try_from(token.len()).unwrap_or(u8::MAX);
    [&[len], token].concat()
}

fn name_key(token: &[u8], directory: u32, name: &[u8]) -> Vec<u8> {
    [&token_key(token), &directory.to_be_bytes()[..], name].concat()
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

fn directory_of(record: &[u8]) -> Result<DirectoryRow, StoreError> {
    serde_json::from_slice(record).map_err(|_| StoreError::Garbled)
}
