//! Network storage whose server can stop responding, like NFS with `hard` mounts.
//!
//! It is a FUSE file system that the test serves itself. While it is stalled, every program that uses it waits in the
//! kernel for as long as the test wants.

use std::{
    ffi::OsStr,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, Request, SessionACL,
};
use tempfile::TempDir;

use crate::process::skip;

/// The kernel may not cache anything, so that every call gets here.
const NEVER_KEPT: Duration = Duration::ZERO;
/// The inode of the first file. The root directory has inode 1.
const FIRST: u64 = 2;

/// Ends the mount when standard input ends. That also happens if the test is killed, so nothing is left behind.
const KEEPER: &str = r#"trap '' TERM INT
read -r _
umount -l "$1""#;

/// A mounted storage with some files.
#[derive(Debug)]
pub struct Stalling {
    place: TempDir,
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
    keeper: Child,
}

impl Stalling {
    /// Mounts a storage with these files, whose modification time is one hour ago. `None`, recorded as skipped, if
    /// mounting is not allowed.
    pub fn mount(files: &[(String, Vec<u8>)]) -> Option<Self> {
        let place = tempfile::tempdir().expect("a temporary directory");
        let gate = Arc::<Gate>::default();
        let modified = SystemTime::now() - Duration::from_hours(1);
        let files = files.to_vec();
        let files = Files { files, modified, gate: Arc::clone(&gate) };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("audiovault-story".to_owned())];
        config.acl = SessionACL::All;
        let session = match fuser::spawn_mount(files, place.path(), &config) {
            Ok(session) => Some(session),
            Err(error) => {
                skip(&format!("tests of a mount that hangs: no FUSE file system can be mounted ({error})"));
                return None;
            }
        };
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &place.path().display().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        Some(Self { place, gate, session, keeper })
    }

    /// The path where it is mounted.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Stops responding.
    pub fn stall(&self) {
        self.gate.state().shut = true;
    }

    /// Responds again, also to the calls that have waited.
    pub fn go_on(&self) {
        self.gate.state().shut = false;
        self.gate.opened.notify_all();
    }

    /// Waits until there has been no call for this long.
    pub async fn quiet(&self, time: Duration) {
        loop {
            let last = self.gate.state().last;
            let left = last.map_or(Duration::ZERO, |last| time.saturating_sub(last.elapsed()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for Stalling {
    fn drop(&mut self) {
        self.go_on();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        if let Some(session) = self.session.take() {
            // The session ends when the last open file is closed.
            drop(session);
        }
    }
}

/// The gate that every call has to pass.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// The time of the last call.
    last: Option<Instant>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the gate is open.
    fn pass(&self) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        while state.shut {
            state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Files in one directory.
struct Files {
    files: Vec<(String, Vec<u8>)>,
    modified: SystemTime,
    gate: Arc<Gate>,
}

impl Files {
    fn file(&self, inode: INodeNo) -> Option<&(String, Vec<u8>)> {
        self.files.get(usize::try_from(inode.0.checked_sub(FIRST)?).ok()?)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let size = match inode {
            INodeNo::ROOT => 0,
            _ => self.file(inode)?.1.len() as u64,
        };
        let (kind, perm) = if inode == INodeNo::ROOT {
            (FileType::Directory, 0o755)
        } else {
            (FileType::RegularFile, 0o644)
        };
        let time = self.modified;
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Files {
    /// Names are compared without regard to case, as SMB servers do.
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.gate.pass();
        let found = (FIRST..).zip(&self.files).find(|(_, (file, _))| name.eq_ignore_ascii_case(file));
        match found.and_then(|(inode, _)| self.attributes(INodeNo(inode))) {
            Some(attributes) => reply.entry(&NEVER_KEPT, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.gate.pass();
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&NEVER_KEPT, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.gate.pass();
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.gate.pass();
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.gate.pass();
        let rest = self.file(inode).zip(usize::try_from(offset).ok());
        let rest = rest.and_then(|((_, bytes), offset)| bytes.get(offset..)).unwrap_or_default();
        let mut bytes = Vec::new();
        let _ = rest.take(u64::from(size)).read_to_end(&mut bytes);
        reply.data(&bytes);
    }

    /// The call when a file is closed. The program that closes the file waits for the response.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.gate.pass();
        reply.ok();
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.gate.pass();
        for (inode, (name, _)) in
            (FIRST..).zip(&self.files).skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            // The offset at which the next call continues: the number of files so far.
            if reply.add(INodeNo(inode), inode - FIRST + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}
