//! Where a recording lies when all links on the way to it are followed.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use cap_std::fs::Dir;

/// The name of a recording without any link in it: another one than it was found under where a link leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The root's own directory.
    pub root: PathBuf,
    /// Where the recording lies beneath it.
    pub path: PathBuf,
}

impl Resolved {
    /// Where the kernel opened `file`, which was opened beneath `root`. Asks no disk. `None` where that cannot be told
    /// (without `/proc`).
    pub(crate) fn of_open(root: impl AsFd, file: impl AsFd) -> Option<Self> {
        let root = opened_at(root)?;
        let path = opened_at(file)?.strip_prefix(&root).ok()?.to_owned();
        Some(Self { root, path })
    }

    /// Follows the links of `path` beneath `root`, which is known as `spelled`. Blocks. `None` where `path` is not there.
    pub(crate) fn look_up(root: &Dir, spelled: &Path, path: &Path) -> Option<Self> {
        let path = root.canonicalize(path).ok()?;
        Some(Self { root: opened_at(root).unwrap_or_else(|| spelled.to_owned()), path })
    }
}

/// The kernel's name for what is open (proc(5), `/proc/pid/fd`).
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
