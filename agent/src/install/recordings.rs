//! Who may read the recordings on this machine.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Permission bits: others may list and enter, or enter alone; the same for the group.
const OTHERS_LIST: u32 = 0o005;
const OTHERS_ENTER: u32 = 0o001;
const GROUP_LIST: u32 = 0o050;
const GROUP_ENTER: u32 = 0o010;

/// What it takes to read recordings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// The groups to belong to.
    pub(super) groups: BTreeSet<String>,
    /// Sentences about directories that no group opens.
    pub(super) problems: Vec<String>,
}

/// What it takes to read all of these directories.
pub(super) fn access(directories: &[PathBuf]) -> Access {
    let names = fs::read_to_string("/etc/group").unwrap_or_default();
    let mut access = Access::default();
    for directory in directories {
        let above = directory.ancestors().skip(1).map(|path| (path, OTHERS_ENTER, GROUP_ENTER));
        for (path, others, group) in [(&**directory, OTHERS_LIST, GROUP_LIST)].into_iter().chain(above) {
            let Ok(metadata) = fs::metadata(path) else {
                if path == directory {
                    access
                        .problems
                        .push(format!("{} is not there now; is its disk mounted?", path.display()));
                }
                continue;
            };
            let mode = metadata.mode();
            if mode & others == others {
                continue;
            }
            if mode & group == group {
                access.groups.insert(name(&names, metadata.gid()));
            } else {
                access.problems.push(locked(path));
            }
        }
    }
    access
}

fn locked(path: &Path) -> String {
    format!("only its owner may read {0}; run: chmod g+rx {0}, and install again", path.display())
}

/// The name of a group, or its number where it has none (group(5)).
fn name(groups: &str, id: u32) -> String {
    let id = id.to_string();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number == id).then(|| name.to_owned())
    });
    named.unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_group_has_a_name_or_a_number() {
        let groups = "root:x:0:\nasterisk:x:995:\nbroken\n";
        assert_eq!((name(groups, 995), name(groups, 7)), ("asterisk".to_owned(), "7".to_owned()));
    }

    #[test]
    fn directories_open_to_all_to_a_group_or_to_nobody_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let make = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        assert_eq!(access(&[make("open", 0o755)]), Access::default());
        let group = access(&[make("group", 0o750)]);
        assert_eq!((group.groups.len(), group.problems.len()), (1, 0));
        assert!(access(&[make("locked", 0o700)]).problems[0].contains("chmod g+rx"));
        assert!(access(&[dir.path().join("gone")]).problems[0].contains("mounted"));
    }
}
