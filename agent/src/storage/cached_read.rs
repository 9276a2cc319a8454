//! Recordings that can be opened and read without waiting for a disk: they are on a local file system, and the kernel
//! has their directories and bytes in memory.
//!
//! Nothing here waits, so it can run between network events: a mount that hangs delays nothing else. All other
//! recordings are opened on threads that may wait, see [`super::driver`].

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use audiovault_agent_core::wav::HEADER_READ;
use parking_lot::Mutex;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, openat2, statx},
    io::{ReadWriteFlags, preadv2},
};

use crate::storage::{open::OpenRecording, recording::Resolved};

/// Local file systems (`statfs(2)`): ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, ZFS. Opening a file on one never asks
/// another machine or program, and the kernel sees every change.
const OWN: [i64; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1];

/// Whether a directory is on a local file system. May wait.
pub(crate) fn is_own(directory: impl AsFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|system| OWN.contains(&system.f_type))
}

/// The device of a root, looked up once so that later calls need not wait for it.
#[derive(Debug, Default)]
pub(crate) struct OwnDevice(Mutex<Option<Device>>);

type Device = (u32, u32);

impl OwnDevice {
    /// Looks up the device of the root. May wait.
    pub(crate) fn learn(&self, root: impl AsFd) {
        let device = if is_own(&root) { look(&root).ok().map(|found| device(&found)) } else { None };
        *self.0.lock() = device;
    }

    fn is(&self, found: &Statx) -> bool {
        *self.0.lock() == Some(device(found))
    }
}

/// Opens the recording `path` below `root`, if everything that is needed is in memory and the sentinel file exists.
/// Also reads its first bytes, if `wanted` asks for them.
pub(crate) fn open(
    root: &Path,
    own: &OwnDevice,
    sentinel: Option<&str>,
    wanted: CachedOpen<'_>,
) -> Option<OpenRecording> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, root, directory, Mode::empty(), ResolveFlags::CACHED).ok()?;
    // A different device may have been mounted at the root since then, and may wait for another machine.
    if !own.is(&look(&root).ok()?) {
        return None;
    }
    if let Some(sentinel) = sentinel {
        open_below(&root, sentinel.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?;
    }
    let file = open_below(&root, wanted.path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let resolved = Some(Resolved::of_open(&root, &file)?);
    let mut open = OpenRecording { resolved, ..OpenRecording::of(file.into()).ok()? };
    if wanted.head {
        let len = usize::try_from(open.size).map_or(HEADER_READ, |size| size.min(HEADER_READ));
        let mut head = vec![0; len];
        read(&open.file, 0, &mut head).ok().filter(|read| *read == len)?;
        open.head = Some(head.into());
    }
    Some(open)
}

/// Which recording to open, and how much of it to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedOpen<'a> {
    /// The path below the root.
    pub(crate) path: &'a Path,
    /// Whether to read the first bytes, because they describe the sound.
    pub(crate) head: bool,
}

/// Reads the bytes of a file from `offset` on into `buffer`, as far as they are in memory, and returns how many. That
/// is less than the buffer's length if some are not in memory, and 0 at the end of the file.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if none of them are in memory, or if this cannot be determined.
pub(crate) fn read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let read = preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT);
    Ok(read.map_err(|_| io::ErrorKind::WouldBlock)?)
}

fn open_below(root: &OwnedFd, path: &Path, how: OFlags) -> Option<OwnedFd> {
    let within =
        ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
    openat2(root, path, how | OFlags::CLOEXEC, Mode::empty(), within).ok()
}

fn look(at: impl AsFd) -> rustix::io::Result<Statx> {
    statx(at, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)
}

fn device(found: &Statx) -> Device {
    (found.stx_dev_major, found.stx_dev_minor)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use tempfile::TempDir;

    use super::*;

    struct Place {
        dir: TempDir,
        own: OwnDevice,
    }

    impl Place {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            fs::create_dir(dir.path().join("day")).unwrap();
            fs::write(dir.path().join("day/a.wav"), b"some sound").unwrap();
            Self { dir, own: OwnDevice::default() }
        }

        fn learned() -> Self {
            let place = Self::new();
            place.own.learn(File::open(place.dir.path()).unwrap());
            place
        }

        fn open(&self, path: &str, sentinel: Option<&str>) -> Option<OpenRecording> {
            open(self.dir.path(), &self.own, sentinel, CachedOpen { path: path.as_ref(), head: true })
        }
    }

    #[test]
    fn what_is_in_memory_is_opened_with_its_first_bytes() {
        let open = Place::learned().open("day/a.wav", None).unwrap();
        assert_eq!((open.size, open.head.as_deref()), (10, Some(&b"some sound"[..])));
        let mut bytes = [0; 100];
        assert_eq!((read(&open.file, 5, &mut bytes).unwrap(), &bytes[..5]), (5, &b"sound"[..]));
        assert_eq!(read(&open.file, 10, &mut bytes).unwrap(), 0, "the end of the file");
    }

    #[test]
    fn nothing_is_at_hand_on_a_device_that_was_not_looked_at() {
        assert!(Place::new().open("day/a.wav", None).is_none());
        let place = Place::new();
        place.own.learn(File::open("/proc").unwrap());
        assert!(place.open("day/a.wav", None).is_none());
    }

    #[test]
    fn without_its_sentinel_a_root_offers_nothing() {
        let place = Place::learned();
        assert!(place.open("day/a.wav", Some(".mounted")).is_none());
        fs::write(place.dir.path().join(".mounted"), b"").unwrap();
        assert!(place.open("day/a.wav", Some(".mounted")).is_some());
    }

    #[test]
    fn no_path_leads_out_of_the_root_and_only_files_are_opened() {
        let place = Place::learned();
        let outside = TempDir::new().unwrap();
        fs::write(outside.path().join("secret.wav"), b"secret").unwrap();
        symlink(outside.path().join("secret.wav"), place.dir.path().join("link.wav")).unwrap();
        for path in ["link.wav", "../secret.wav", "/etc/passwd", "day", "none.wav", ""] {
            assert!(place.open(path, None).is_none(), "{path:?}");
        }
    }
}
