//! One recording as a search finds it, and the rules by which several files become one answer.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use audiovault_protocol::media::content_type;

use crate::{
    sound::layout::{Layout, delivered_extension},
    vault::{
        media::{self, playability},
        resolved::Resolved,
    },
};

/// A file that changed this recently is still being written. Asterisk's buffer of 4 KiB lasts 2.5 s at GSM's 1.6 kB
/// a second, and NFS may hide a change for 3 s.
pub const GROWING_FOR: Duration = Duration::from_secs(5);

/// A recording on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Which driver found it: its position in the order given.
    pub driver: usize,
    /// Where it lies beneath the driver's root.
    pub path: PathBuf,
    /// Octets.
    pub size: u64,
    /// Modification time.
    pub modified: SystemTime,
    /// Extension in lower case.
    pub extension: String,
    /// Length of the sound, where a header tells.
    pub duration: Option<Duration>,
    /// Nobody answered: a header and no sound.
    pub empty: bool,
    /// Still being written.
    pub growing: bool,
    /// A WAV file that browsers play.
    pub plain_wav: bool,
    /// What it is delivered as where browsers do not play it as it is.
    pub decoded: Option<Layout>,
    /// Device and inode, by which two paths to one file are known.
    pub identity: (u64, u64),
    /// Where it lies without the links on its way.
    pub resolved: Option<Resolved>,
}

impl Recording {
    /// The file's own name.
    pub fn name(&self) -> OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }

    /// The media type of the file.
    pub fn content_type(&self) -> String {
        content_type(&self.extension)
    }

    /// The media type that it is delivered as.
    pub fn delivered_type(&self) -> String {
        let decoded = self.decoded.map(|_| delivered_extension(&self.extension));
        content_type(decoded.unwrap_or(&self.extension))
    }

    /// Octets that are delivered.
    pub fn delivered_size(&self) -> u64 {
        self.decoded.map_or(self.size, |layout| layout.size())
    }

    /// The name that it is delivered with.
    pub fn delivered_name(&self) -> OsString {
        let name = self.name();
        if self.decoded.is_some() { media::decoded_name(&name) } else { name }
    }

    /// Whether a modification time means that somebody still writes at `now`. A clock ahead on a NAS must not make
    /// a finished recording grow for ever, so only the near future counts.
    pub fn is_growing(modified: SystemTime, now: SystemTime) -> bool {
        let distance = now.duration_since(modified).unwrap_or_else(|ahead| ahead.duration());
        distance < GROWING_FOR
    }

    fn preference(&self) -> (bool, bool, u8) {
        (self.empty, self.growing, playability(&self.extension, self.plain_wav, self.decoded.is_some()))
    }
}

/// Drops second paths to one file and all but one of twins (the same recording in several formats: same directory,
/// same name, other extension), then orders by modification time and name.
///
/// Of twins the one stays that has sound, that is finished, and that browsers play best; see
/// [`media::playability`].
pub fn tidy(found: Vec<Recording>) -> Vec<Recording> {
    let mut seen = HashSet::new();
    let mut twins: HashMap<(usize, PathBuf), Recording> = HashMap::new();
    for recording in found {
        if !seen.insert((recording.identity, recording.size, recording.modified)) {
            continue;
        }
        let key = (recording.driver, recording.path.with_extension(""));
        match twins.get(&key) {
            Some(kept) if (kept.preference(), &kept.path) <= (recording.preference(), &recording.path) => {}
            Some(_) | None => {
                twins.insert(key, recording);
            }
        }
    }
    let mut tidy: Vec<Recording> = twins.into_values().collect();
    tidy.sort_by(|a, b| {
        let order = a.modified.cmp(&b.modified).then_with(|| a.name().as_bytes().cmp(b.name().as_bytes()));
        order.then_with(|| (a.driver, &a.path).cmp(&(b.driver, &b.path)))
    });
    tidy
}
