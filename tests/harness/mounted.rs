//! Storage that comes and goes, as that of a NAS does: a directory that root binds to another place, and takes away.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

use crate::process::skip;

/// Mounts and unmounts as it is told, and unmounts when its standard input ends: also when the story was killed, which
/// leaves nothing behind then.
const KEEPER: &str = r#"trap '' TERM INT
while read -r wanted; do
  if [ "$wanted" = mount ]; then mount --bind "$1" "$2"; else umount -l "$2"; fi
  echo "$?"
done
umount -l "$2" 2>/dev/null"#;

/// Storage and the place where it is mounted now and then.
#[derive(Debug)]
pub struct Mounted {
    storage: TempDir,
    place: TempDir,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Mounted {
    /// Mounts an empty storage; `None`, noted as skipped, where that is not allowed.
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
        skip("stories of storage that is unmounted: only root may do that, and not in every container");
        None
    }

    /// Where it is mounted.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Where its content is, mounted or not.
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }

    /// Takes it away, also while somebody uses it: what is open stays open (`umount -l`).
    pub fn take_away(&mut self) {
        assert!(self.has("unmount"), "it was mounted");
    }

    /// Mounts it again.
    pub fn bring_back(&mut self) {
        assert!(self.has("mount"), "it was mounted before");
    }

    /// Has the keeper do something; whether that could be done.
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
