//! The index on disk: one file for each root, as redb keeps it.
//!
//! `names` files every name under its tokens, `folders` remembers each folder as it was read, and `files` tells what is
//! filed of a folder, so that a folder read again costs writes for what has changed alone.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{AccessGuard, Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Token, folder and name, each name under each of its tokens; see [`name_key`].
const NAMES: TableDefinition<&[u8], ()> = TableDefinition::new("names");
/// Folder and digest of a name to its tokens, for names that have any.
const FILES: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("files");
/// Path of a folder to what is known of it, as JSON.
const FOLDERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("folders");
/// Number of a folder to its path.
const PATHS: TableDefinition<u32, &[u8]> = TableDefinition::new("paths");
/// What the file is about.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");

/// Changed whenever the tables or the tokens do.
const FORMAT: &str = "1";
/// What redb may keep in memory, in octets: far less than the index of a great archive, more than one needs to be quick.
const CACHE: usize = 8 << 20;

/// Why an index cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory or file cannot be made or read.
    #[error("the index in {} cannot be kept; check that the agent's user may write there", .0.display())]
    Unusable(PathBuf, #[source] io::Error),
    /// Another process keeps it.
    #[error("the index {} is kept by another process; give each agent a directory of its own", .0.display())]
    Kept(PathBuf),
    /// The store failed.
    #[error("the index failed")]
    Failed(#[source] Box<redb::Error>),
    /// What is written there is not what was written.
    #[error("the index holds a record that is none")]
    Garbled,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// A folder as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Folder {
    /// Its number.
    pub(super) id: u32,
    /// When it had changed, by the clock of its file system, in nanoseconds since the Unix epoch.
    pub(super) modified: i128,
    /// When that was seen first, by this machine's clock, in nanoseconds since the Unix epoch.
    pub(super) first_seen: i128,
    /// Whether it can be told from its next state by its modification time.
    pub(super) settled: bool,
    /// Names of the folders in it, as octets.
    pub(super) below: Vec<Vec<u8>>,
}

/// An index.
#[derive(Debug)]
pub(super) struct Store {
    database: Database,
}

impl Store {
    /// Opens the file of an index about this, and begins a new one if it is about something else or is damaged. Reads the
    /// whole file. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged file is none.
    pub(super) fn open(file: &Path, about: &str) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::Unusable(file.to_owned(), error);
        let directory = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(unusable)?;
        match guarded(|| Self::try_open(file, about)) {
            Ok(Some(store)) => return Ok(store),
            Ok(None) => {
                tracing::info!(file = %file.display(), "the index is of another configuration; building it anew");
            }
            Err(error @ (StoreError::Unusable(..) | StoreError::Kept(_))) => return Err(error),
            Err(StoreError::Failed(error)) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => {
                return Err(StoreError::Kept(file.to_owned()));
            }
            Err(StoreError::Failed(error)) if is_trouble(&error) => {
                return Err(unusable(io::Error::other(error)));
            }
            Err(StoreError::Failed(_) | StoreError::Garbled) => {
                tracing::warn!(file = %file.display(), "the index is damaged; building it anew");
            }
        }
        fs::remove_file(file).map_err(unusable)?;
        Self::try_open(file, about)?.ok_or(StoreError::Garbled)
    }

    fn try_open(file: &Path, about: &str) -> Result<Option<Self>, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = builder.create(file)?;
        // Names hold telephone numbers.
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
        writing.open_table(FOLDERS)?;
        writing.open_table(PATHS)?;
        writing.commit()?;
        Ok(fits.then_some(store))
    }

    /// Begins to read a state of the index that does not change meanwhile.
    pub(super) fn reading(&self) -> Result<Reading, StoreError> {
        Ok(Reading { transaction: self.database.begin_read()? })
    }

    /// A number that no folder has, nor any above it.
    pub(super) fn free_number(&self) -> Result<u32, StoreError> {
        let paths = self.database.begin_read()?.open_table(PATHS)?;
        let last = paths.last()?.map(|(number, _)| number.value());
        last.map_or(Ok(0), |last| last.checked_add(1).ok_or(StoreError::Garbled))
    }

    /// Puts a change in force, and on disk.
    pub(super) fn apply(&self, change: Change) -> Result<(), StoreError> {
        let Change { mut names, mut files, taken_out, folders, forgotten, scanned } = change;
        // In the order of the tables, so that each of their pages is written once.
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
            let (mut known, mut paths) = (transaction.open_table(FOLDERS)?, transaction.open_table(PATHS)?);
            for (path, folder) in folders {
                let record = serde_json::to_vec(&folder).map_err(|_| StoreError::Garbled)?;
                known.insert(path.as_os_str().as_bytes(), record.as_slice())?;
                paths.insert(folder.id, path.as_os_str().as_bytes())?;
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

/// Takes a file out of both tables.
fn take_out(
    names: &mut Table<'_, &'static [u8], ()>,
    files: &mut Table<'_, (u32, u64), &'static [u8]>,
    (folder, gone): (u32, u64),
) -> Result<(), StoreError> {
    let tokens = files.remove((folder, gone))?.map(|tokens| tokens.value().to_owned());
    let mut rest = tokens.as_deref().unwrap_or_default();
    while let Some((len, behind)) = rest.split_first() {
        let (token, behind) = behind.split_at_checked((*len).into()).ok_or(StoreError::Garbled)?;
        let first = name_key(token, folder, b"");
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

/// What is to change; all of it or nothing.
#[derive(Debug, Default)]
pub(super) struct Change {
    names: Vec<Vec<u8>>,
    files: Vec<((u32, u64), Vec<u8>)>,
    taken_out: Vec<(u32, u64)>,
    folders: Vec<(PathBuf, Folder)>,
    forgotten: Vec<(PathBuf, u32)>,
    scanned: Option<i128>,
}

impl Change {
    /// How many names are in it.
    pub(super) fn len(&self) -> usize {
        self.files.len() + self.taken_out.len()
    }

    /// Files a name of a folder under its tokens.
    pub(super) fn file(&mut self, folder: u32, name: &[u8], tokens: &[Vec<u8>]) {
        self.names.extend(tokens.iter().map(|token| name_key(token, folder, name)));
        let listed = tokens.iter().flat_map(|token| token_key(token)).collect();
        self.files.push(((folder, digest(name)), listed));
    }

    /// Takes a name of a folder out, by its digest.
    pub(super) fn take_out(&mut self, folder: u32, gone: u64) {
        self.taken_out.push((folder, gone));
    }

    /// Remembers a folder.
    pub(super) fn remember(&mut self, path: &Path, folder: Folder) {
        self.folders.push((path.to_owned(), folder));
    }

    /// Forgets a folder whose names are taken out.
    pub(super) fn forget(&mut self, path: PathBuf, number: u32) {
        self.forgotten.push((path, number));
    }

    /// Notes that everything has been seen by a scan that began then, in nanoseconds since the Unix epoch.
    pub(super) fn note_scan(&mut self, began: i128) {
        self.scanned = Some(began);
    }
}

/// A damaged file may have its reader stop instead of say so.
pub(super) fn guarded<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(StoreError::Garbled))
}

/// Whether the disk or a permission is to blame, and not the file.
fn is_trouble(error: &redb::Error) -> bool {
    let damage = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    matches!(error, redb::Error::Io(error) if !damage.contains(&error.kind()))
}

/// One state of an index.
pub(super) struct Reading {
    transaction: ReadTransaction,
}

impl Reading {
    /// The paths of all files that are filed under a token and pass `wanted`, by folder and name.
    pub(super) fn filed(
        &self,
        token: &[u8],
        wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<PathBuf>, StoreError> {
        let (names, paths) = (self.transaction.open_table(NAMES)?, self.transaction.open_table(PATHS)?);
        let first = token_key(token);
        let mut found = Vec::new();
        for entry in names.range(first.as_slice()..)? {
            let (key, ()) = entry.map(|(key, value)| (key, value.value()))?;
            let Some(rest) = key.value().strip_prefix(first.as_slice()) else { break };
            let (folder, name) = rest.split_first_chunk::<4>().ok_or(StoreError::Garbled)?;
            if wanted(name) {
                let folder = paths.get(u32::from_be_bytes(*folder))?.ok_or(StoreError::Garbled)?;
                found.push(path_of(folder.value()).join(OsStr::from_bytes(name)));
            }
        }
        Ok(found)
    }

    /// What is known of a folder.
    pub(super) fn folder(&self, path: &Path) -> Result<Option<Folder>, StoreError> {
        let folders = self.transaction.open_table(FOLDERS)?;
        let record = folders.get(path.as_os_str().as_bytes())?;
        record.map(|record| folder_of(record.value())).transpose()
    }

    /// When the last whole scan began, in nanoseconds since the Unix epoch; nothing before the first has ended.
    pub(super) fn scanned(&self) -> Result<Option<i128>, StoreError> {
        let about = self.transaction.open_table(ABOUT)?;
        let text = about.get("scanned")?.map(|text| text.value().to_owned());
        text.map(|text| text.parse().map_err(|_| StoreError::Garbled)).transpose()
    }

    /// All folders, by number and path.
    pub(super) fn folders(&self) -> Result<Vec<(u32, PathBuf)>, StoreError> {
        let paths = self.transaction.open_table(PATHS)?;
        let entries = paths.range::<u32>(..)?;
        let folder = |entry: Result<(_, _), _>| {
            let (number, path): (AccessGuard<'_, u32>, AccessGuard<'_, &[u8]>) = entry?;
            Ok((number.value(), path_of(path.value())))
        };
        entries.map(folder).collect()
    }

    /// Every path that is filed.
    #[cfg(test)]
    pub(super) fn listed(&self) -> Vec<PathBuf> {
        let names = self.transaction.open_table(NAMES).unwrap();
        let paths = self.transaction.open_table(PATHS).unwrap();
        let path = |key: &[u8]| {
            let (folder, name) = key[usize::from(key[0]) + 1..].split_first_chunk::<4>().unwrap();
            let folder = paths.get(u32::from_be_bytes(*folder)).unwrap().unwrap();
            path_of(folder.value()).join(OsStr::from_bytes(name))
        };
        names.range::<&[u8]>(..).unwrap().map(|entry| path(entry.unwrap().0.value())).collect()
    }

    /// The digests of the names that are filed of a folder, in order.
    pub(super) fn digests(&self, folder: u32) -> Result<Vec<u64>, StoreError> {
        let files = self.transaction.open_table(FILES)?;
        let entries = files.range((folder, 0)..=(folder, u64::MAX))?;
        entries.map(|entry| Ok(entry?.0.value().1)).collect()
    }
}

/// The first 64 bits of a name's digest; it has to be the same in every version of this program.
pub(super) fn digest(name: &[u8]) -> u64 {
    let whole: [u8; 32] = Sha256::digest(name).into();
    whole.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

/// The length of a token and the token: no token is the beginning of another's key.
fn token_key(token: &[u8]) -> Vec<u8> {
    let token = token.get(..usize::from(u8::MAX)).unwrap_or(token);
    let len = u8::try_from(token.len()).unwrap_or(u8::MAX);
    [&[len], token].concat()
}

fn name_key(token: &[u8], folder: u32, name: &[u8]) -> Vec<u8> {
    [&token_key(token), &folder.to_be_bytes()[..], name].concat()
}

fn path_of(octets: &[u8]) -> PathBuf {
    OsStr::from_bytes(octets).into()
}

fn folder_of(record: &[u8]) -> Result<Folder, StoreError> {
    serde_json::from_slice(record).map_err(|_| StoreError::Garbled)
}
