//! Reads one directory: which of its entries are recordings, and which may contain more.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, SystemTime},
};

use cap_std::fs::{Dir, Metadata, MetadataExt};
use rustix::fs::{AtFlags, Dir as Reader, DirEntry, FileType, Mode, OFlags, openat, statat};

/// If a directory changed less than this before it was read, it may change again within the same tick of its file
/// system's clock. FAT has the coarsest clock, two seconds.
pub(crate) const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// Directories that appliances and file systems create for themselves; never entered.
const DEBRIS: [&[u8]; 6] =
    [b"#recycle", b"@Recycle", b"@eaDir", b"@Recently-Snapshot", b"#snapshot", b"lost+found"];

/// Whether a name is hidden, or belongs to what appliances and file systems create for themselves.
pub(crate) fn is_debris(name: &[u8]) -> bool {
    name.starts_with(b".") || DEBRIS.contains(&name)
}

/// Which names in a directory are of interest.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    /// Whether a file with this name is wanted.
    pub(crate) recording: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// Whether a directory with this name is skipped because it is named like a recording.
    pub(crate) skipped: &'a (dyn Fn(&[u8]) -> bool + Sync),
}

impl Names<'_> {
    /// Whether a directory with this name may be entered.
    pub(crate) fn lead_on(&self, name: &[u8]) -> bool {
        !is_debris(name) && !(self.skipped)(name)
    }
}

/// A directory entry that is of interest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file, or a link to one.
    Recording(OsString),
    /// A directory, or a link to one that is not above it.
    Directory(OsString),
}

/// An open directory.
pub(crate) struct OpenDirectory<'a> {
    root: &'a Dir,
    /// Its path below the root; the empty path is the root itself.
    pub(crate) path: &'a Path,
    /// The directory itself.
    pub(crate) handle: Dir,
}

impl<'a> OpenDirectory<'a> {
    /// Opens a directory below a root; the empty path is the root itself.
    pub(crate) fn open(root: &'a Dir, path: &'a Path) -> io::Result<Self> {
        Ok(Self { root, path, handle: open(root, path)? })
    }

    /// When it was last changed, by the clock of its file system.
    pub(crate) fn modified(&self) -> io::Result<SystemTime> {
        Ok(self.handle.dir_metadata()?.modified()?.into_std())
    }

    /// Its entries, in the order of the file system. `None` stands for one that is not of interest.
    pub(crate) fn entries(
        &self,
        names: Names<'_>,
    ) -> io::Result<impl Iterator<Item = io::Result<Option<Entry>>>> {
        Ok(self.listing()?.map(move |entry| self.classify(&entry?, names)))
    }

    /// All its entries, also itself and the directory above, in the order of the file system.
    pub(crate) fn listing(&self) -> io::Result<impl Iterator<Item = io::Result<Listed>>> {
        // The handle is only for paths, so the directory is opened once more to be read.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entries = Reader::new(openat(&self.handle, c".", flags, Mode::empty())?)?;
        Ok(entries.map(|entry| Ok(Listed(entry?))))
    }

    fn classify(&self, entry: &Listed, names: Names<'_>) -> io::Result<Option<Entry>> {
        let name = entry.name();
        let bytes = name.as_bytes();
        if bytes.starts_with(b".") {
            return Ok(None);
        }
        let recording = (names.recording)(bytes);
        let directory = names.lead_on(bytes);
        if !recording && !directory {
            return Ok(None);
        }
        let mut kind = entry.kind();
        if kind == FileType::Unknown {
            // Some file systems do not give the type in the listing.
            let found = statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(found.st_mode);
        }
        if kind == FileType::Symlink {
            // Looked up from the root, because a link may lead to another directory and still stay inside the root.
            let target = self.root.metadata(self.path.join(name))?;
            return Ok(if target.is_file() && recording {
                Some(Entry::Recording(name.to_owned()))
            } else if target.is_dir() && directory && !is_above(self.root, self.path, &target) {
                Some(Entry::Directory(name.to_owned()))
            } else {
                None
            });
        }
        Ok(if kind == FileType::RegularFile && recording {
            Some(Entry::Recording(name.to_owned()))
        } else if kind == FileType::Directory && directory {
            Some(Entry::Directory(name.to_owned()))
        } else {
            None
        })
    }
}

/// An entry as the file system lists it.
pub(crate) struct Listed(DirEntry);

impl Listed {
    /// The name.
    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.0.file_name().to_bytes())
    }

    /// The type, without following a link; unknown on some file systems.
    pub(crate) fn kind(&self) -> FileType {
        self.0.file_type()
    }
}

fn open(root: &Dir, path: &Path) -> io::Result<Dir> {
    if path.as_os_str().is_empty() { root.try_clone() } else { root.open_dir(path) }
}

/// Whether `target` is this directory or one above it. Following a link to it would never end.
fn is_above(root: &Dir, path: &Path, target: &Metadata) -> bool {
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    path.ancestors().any(|above| {
        let metadata = open(root, above).and_then(|directory| directory.dir_metadata());
        metadata.is_ok_and(|metadata| identity(&metadata) == identity(target))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;
    use crate::testing::put;

    fn listed(dir: &TempDir, path: &str) -> Vec<Entry> {
        let root = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        let directory = OpenDirectory::open(&root, Path::new(path)).unwrap();
        let is_wav = |name: &[u8]| name.ends_with(b".wav");
        let names = Names { recording: &is_wav, skipped: &is_wav };
        let entries = directory.entries(names).unwrap();
        let mut found: Vec<Entry> = entries.filter_map(|entry| entry.unwrap()).collect();
        found.sort_by_key(|entry| match entry {
            Entry::Recording(name) | Entry::Directory(name) => name.clone(),
        });
        found
    }

    #[test]
    fn recordings_and_directories_are_distinguished_from_debris() {
        let dir = TempDir::new().unwrap();
        for path in ["a.wav", "notes.txt", ".a.wav", "@eaDir/a.wav", "like.wav/a.wav", "2026/a.wav"] {
            put(dir.path().join(path), b"");
        }
        symlink("2026/a.wav", dir.path().join("link.wav")).unwrap();
        symlink("2026", dir.path().join("link")).unwrap();
        let (file, directory) =
            (|name: &str| Entry::Recording(name.into()), |name: &str| Entry::Directory(name.into()));
        assert_eq!(listed(&dir, ""), [directory("2026"), file("a.wav"), directory("link"), file("link.wav")]);
    }

    #[test]
    fn a_link_to_a_folder_above_is_not_entered_and_one_sideways_is() {
        let dir = TempDir::new().unwrap();
        put(dir.path().join("a/b/c.wav"), b"");
        put(dir.path().join("d/e.wav"), b"");
        symlink("../..", dir.path().join("a/b/top")).unwrap();
        symlink("../b", dir.path().join("a/b/self")).unwrap();
        symlink("../../d", dir.path().join("a/b/side")).unwrap();
        assert_eq!(listed(&dir, "a/b"), [Entry::Recording("c.wav".into()), Entry::Directory("side".into())]);
    }
}
