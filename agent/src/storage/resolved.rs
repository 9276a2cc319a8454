//! The path of a recording after all links are resolved.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use cap_std::fs::Dir;

/// The path of a recording without links. It differs from the path in the search result if that contains a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The root directory.
    pub root: PathBuf,
    /// The path of the recording below it.
    pub path: PathBuf,
}

impl Resolved {
    /// The path at which the kernel opened `file`, which was opened below `root`. Reads no disk. `None` if the kernel
    /// does not say (without `/proc`).
    pub(crate) fn of_open(root: impl AsFd, file: impl AsFd) -> Option<Self> {
        let root = opened_at(root)?;
        let path = opened_at(file)?.strip_prefix(&root).ok()?.to_owned();
        Some(Self { root, path })
    }

    /// Resolves the links of `path` below `root`; `spelled` is the configured path of the root. Blocks. `None` if
    /// `path` does not exist.
    pub(crate) fn look_up(root: &Dir, spelled: &Path, path: &Path) -> Option<Self> {
        let path = root.canonicalize(path).ok()?;
        Some(Self { root: opened_at(root).unwrap_or_else(|| spelled.to_owned()), path })
    }
}

/// The path that the kernel has for an open file (proc(5), `/proc/pid/fd`).
fn opened_at(open: impl AsFd) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", open.as_fd().as_raw_fd());
    fs::read_link(link).ok().filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink};

    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn both_ways_follow_links_of_files_of_directories_and_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        fs::create_dir_all(real.join("private")).unwrap();
        fs::write(real.join("private/a.wav"), b"").unwrap();
        symlink("private", real.join("public")).unwrap();
        symlink("public/a.wav", real.join("b.wav")).unwrap();
        let spelled = dir.path().join("spelled");
        symlink(&real, &spelled).unwrap();
        let root = Dir::open_ambient_dir(&spelled, ambient_authority()).unwrap();
        let expected = Some(Resolved { root: real, path: "private/a.wav".into() });
        for path in ["private/a.wav", "public/a.wav", "b.wav"].map(Path::new) {
            assert_eq!(Resolved::look_up(&root, &spelled, path), expected, "{path:?}");
            let file = File::open(spelled.join(path)).unwrap();
            assert_eq!(Resolved::of_open(&root, &file), expected, "{path:?}");
        }
        assert_eq!(Resolved::look_up(&root, &spelled, Path::new("none.wav")), None);
    }
}
