//! Storage that disappears and comes back, like that of a NAS: a directory that root bind-mounts at another path and
//! unmounts.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

use crate::process::skip;

/// Mounts and unmounts on command, and unmounts when its standard input ends. That also happens if the test is killed,
/// so nothing is left behind.
const KEEPER: &str = r#"trap '' TERM INT
while read -r wanted; do
  if [ "$wanted" = mount ]; then mount --bind "$1" "$2"; else umount -l "$2"; fi
  echo "$?"
done
umount -l "$2" 2>/dev/null"#;

/// Storage and the path where it is mounted at times.
#[derive(Debug)]
pub struct Mounted {
    storage: TempDir,
    place: TempDir,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Mounted {
    /// Mounts an empty storage. `None`, recorded as skipped, if mounting is not allowed.
    pub fn mount() -> Option<Self> {
        let [storage, place] = [(), ()].map(|()| tempfile::tempdir().expect("a temporary directory"));
        let paths = [&storage, &place].map(|dir| dir.path().display().to_string());
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let orders = keeper.stdin.take();
        let answers = BufReader::new(keeper.stdout.take().expect("piped")).lines();
        let mut mounted = Self { storage, place, keeper, orders, answers };
        if mounted.has("mount") {
            return Some(mounted);
        }
        skip("tests of storage that is unmounted: only root may do that, and not in every container");
        None
    }

    /// The path where it is mounted.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The directory with its content, mounted or not.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }

    /// Unmounts the storage even while it is in use. Open files stay open (`umount -l`).
    pub fn take_away(&mut self) {
        assert!(self.has("unmount"), "it was mounted");
    }

    /// Mounts it again.
    pub fn bring_back(&mut self) {
        assert!(self.has("mount"), "it was mounted before");
    }

    /// Sends a command to the keeper. Returns whether it succeeded.
    fn has(&mut self, wanted: &str) -> bool {
        let orders = self.orders.as_mut().expect("the keeper listens until the end");
        writeln!(orders, "{wanted}").expect("the keeper listens");
        self.answers.next().expect("an answer").expect("an answer") == "0"
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.keeper.wait();
    }
}
