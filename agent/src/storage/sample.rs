//! Finds the newest recording with a call id in its name, to try a search with.

use std::{
    cmp::Reverse,
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

use audiovault_agent_core::{
    call_id::CallId,
    pattern::{Part, Pattern, Placeholder},
};
use cap_std::fs::Dir;

use crate::storage::{
    StorageSettings,
    directory::{Entry, Names, OpenDirectory},
    recording::Recording,
};

/// Number of directories to read, the one with the newest recording first: enough to get past directories of
/// greetings and music.
pub(crate) const DIRECTORIES: usize = 8;
/// Number of names in each directory that are searched for an id, newest first.
const NAMES: usize = 200;

/// A recording to try a search with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The path below the root.
    pub path: PathBuf,
    /// When it was last written.
    pub modified: SystemTime,
    /// The call id in its name.
    pub call_id: CallId,
    /// The tenant in its directory's name, if the pattern has one.
    pub tenant: Option<String>,
}

/// The result of looking for a recording to try a search with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sampled {
    /// A recording was found.
    Found(Box<Sample>),
    /// There are recordings, but no name that was read contains a call id; this is the newest name.
    Nameless(OsString),
    /// There is no recording.
    Nothing,
}

/// The recordings of a root from which a sample is chosen.
pub(crate) struct Among<'a> {
    /// Directories below the root, in the order in which to read them.
    pub(crate) directories: &'a [PathBuf],
    /// The root's pattern.
    pub(crate) pattern: &'a Pattern,
    /// Whether a search would return this recording of this call.
    pub(crate) offered: &'a dyn Fn(&Path, &CallId) -> bool,
}

/// Looks for a sample in directories below a root. A finished recording is preferred to one that is still being
/// written. Skips what cannot be read. Blocks.
pub(crate) fn take(root: &Dir, among: &Among<'_>, settings: &StorageSettings) -> Sampled {
    let now = SystemTime::now();
    let mut newest = None;
    let mut growing = None;
    for directory in among.directories {
        for (modified, name) in names(root, directory, settings).unwrap_or_default() {
            newest.get_or_insert_with(|| name.clone());
            let Some(call_id) = settings.call_ids.find_in(name.as_bytes(), modified) else { continue };
            let path = directory.join(&name);
            if !(among.offered)(&path, &call_id) {
                continue;
            }
            let tenant = tenant(among.pattern, &path);
            let sample = Box::new(Sample { path, modified, call_id, tenant });
            if !Recording::is_growing(modified, now) {
                return Sampled::Found(sample);
            }
            growing.get_or_insert(sample);
        }
    }
    match (growing, newest) {
        (Some(sample), _) => Sampled::Found(sample),
        (None, Some(name)) => Sampled::Nameless(name),
        (None, None) => Sampled::Nothing,
    }
}

/// The names of the recordings in a directory, newest first.
fn names(
    root: &Dir,
    directory: &Path,
    settings: &StorageSettings,
) -> std::io::Result<Vec<(SystemTime, OsString)>> {
    let is_recording = |name: &[u8]| settings.extensions.of(name).is_some();
    let names = Names { recording: &is_recording, skipped: &|_| true };
    let mut found = Vec::new();
    for entry in OpenDirectory::open(root, directory)?.entries(names)? {
        let Ok(Some(Entry::Recording(name))) = entry else { continue };
        let Ok(metadata) = root.metadata(directory.join(&name)) else { continue };
        if let Ok(modified) = metadata.modified()
            && metadata.is_file()
        {
            found.push((modified.into_std(), name));
        }
    }
    found.sort_by_key(|(modified, _)| Reverse(*modified));
    found.truncate(NAMES);
    Ok(found)
}

/// The tenant in a path below a pattern's root, if a directory name contains it.
fn tenant(pattern: &Pattern, path: &Path) -> Option<String> {
    let named = pattern.components().iter().zip(path.components());
    let (parts, component) =
        named.into_iter().find(|(parts, _)| parts.contains(&Part::Place(Placeholder::Tenant)))?;
    let Component::Normal(name) = component else { return None };
    let text = |part: &Part| match part {
        Part::Literal(text) => Some(text.clone()),
        Part::Place(_) => None,
    };
    let before = parts.first().and_then(text).unwrap_or_default();
    let behind = parts.last().and_then(text).unwrap_or_default();
    let only = parts.iter().filter(|part| text(part).is_none()).count() == 1;
    let name = name.to_str()?.strip_prefix(&before)?.strip_suffix(&behind)?;
    (only && !name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cap_std::ambient_authority;
    use tempfile::TempDir;

    use super::*;
    use crate::testing::{put, put_aged};

    const HOUR: Duration = Duration::from_secs(3600);

    const DENIED: &str = "1711444506.21";

    fn sampled(dir: &TempDir, directories: &[&str]) -> Sampled {
        let root = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        let directories: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
        let pattern = Pattern::parse(&format!("file:{}/%TE", dir.path().display())).unwrap();
        let offered = |_: &Path, id: &CallId| id.as_str() != DENIED;
        let among = Among { directories: &directories, pattern: &pattern, offered: &offered };
        take(&root, &among, &StorageSettings::new(vec![pattern.clone()]))
    }

    #[test]
    fn the_newest_finished_recording_with_an_id_is_taken() {
        let dir = TempDir::new().unwrap();
        put_aged(dir.path().join("acme/in-1711444502.17.wav"), b"a", 3 * HOUR);
        put_aged(dir.path().join("acme/in-1711444503.18.wav"), b"a", 2 * HOUR);
        put_aged(dir.path().join("acme/greeting.wav"), b"a", HOUR);
        put_aged(dir.path().join("acme/in-1711444504.19.wav"), b"a", Duration::ZERO);
        put_aged(dir.path().join("acme/in-1711444505.20.txt"), b"a", HOUR);
        put_aged(dir.path().join(format!("acme/in-{DENIED}.wav")), b"a", HOUR);
        put(dir.path().join("music/hold.wav"), b"a");
        let Sampled::Found(sample) = sampled(&dir, &["music", "acme"]) else { panic!("nothing") };
        assert_eq!(sample.path, Path::new("acme/in-1711444503.18.wav"));
        assert_eq!((sample.call_id.as_str(), sample.tenant.as_deref()), ("1711444503.18", Some("acme")));
    }

    #[test]
    fn a_recording_that_is_still_written_is_the_last_choice() {
        let dir = TempDir::new().unwrap();
        put_aged(dir.path().join("a/1711444504.19.wav"), b"a", Duration::ZERO);
        assert!(matches!(sampled(&dir, &["a"]), Sampled::Found(_)));
    }

    #[test]
    fn names_without_an_id_are_distinguished_from_no_recording_at_all() {
        let dir = TempDir::new().unwrap();
        put(dir.path().join("music/hold.wav"), b"a");
        assert_eq!(sampled(&dir, &["music"]), Sampled::Nameless("hold.wav".into()));
        assert_eq!(sampled(&dir, &["gone"]), Sampled::Nothing);
    }
}
