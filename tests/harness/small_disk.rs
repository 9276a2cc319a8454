//! A disk that fills up soon: a tmpfs of a few megabytes, which only root may mount.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::process::skip;

/// Mounts the disk, and unmounts it when standard input ends. That also happens if the test is killed, so nothing is
/// left behind.
const KEEPER: &str = r#"trap '' TERM INT
mount -t tmpfs -o size=4m,mode=700 tmpfs "$1" || exit
echo mounted
read -r _
umount -l "$1""#;

/// A mounted disk; it is unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
    keeper: Child,
}

impl SmallDisk {
    /// Mounts a disk. `None`, recorded as skipped, if mounting is not allowed.
    pub fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &dir.path().display().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
        let disk = Self { dir, keeper };
        if said.is_empty() {
            skip("tests of a full disk: only root may mount one, and not in every container");
        }
        (!said.is_empty()).then_some(disk)
    }

    /// The path where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes until the disk is full.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).expect("a file");
        loop {
            // A page is the smallest unit of a tmpfs.
            match file.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    /// Removes what [`SmallDisk::fill`] has written.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the file was written");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
