//! Finds the groups that the agent needs to read the recordings on this machine.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::layout::NAME;

/// Permission bits: others may list and enter, or only enter; the same for the group.
const OTHERS_LIST: u32 = 0o005;
const OTHERS_ENTER: u32 = 0o001;
const GROUP_LIST: u32 = 0o050;
const GROUP_ENTER: u32 = 0o010;

/// What the agent needs to read the recordings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// The groups to join.
    pub(super) groups: BTreeSet<String>,
    /// Sentences about directories that no group can open.
    pub(super) problems: Vec<String>,
}

/// What a user needs to enter one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: all users may enter.
    Nothing,
    /// To belong to the group with this number.
    Group(u32),
    /// To belong to root's group, which opens much more of a machine than recordings. It is never joined.
    RootsGroup,
    /// To be the owner.
    Owner,
}

impl Need {
    fn of(mode: u32, gid: u32, others: u32, group: u32) -> Self {
        if mode & others == others {
            Self::Nothing
        } else if mode & group != group {
            Self::Owner
        } else if gid == 0 {
            Self::RootsGroup
        } else {
            Self::Group(gid)
        }
    }
}

/// What the agent needs to read all of these directories. A group counts only if the path to the directory can be
/// entered too, so that no group is joined for a directory that has a problem.
pub(super) fn access(directories: &[PathBuf]) -> Access {
    let names = fs::read_to_string("/etc/group").unwrap_or_default();
    let mut access = Access::default();
    for directory in directories {
        let mut groups = BTreeSet::new();
        let mut problems = Vec::new();
        let above = directory.ancestors().skip(1).map(|path| (path, OTHERS_ENTER, GROUP_ENTER));
        for (path, others, group) in [(&**directory, OTHERS_LIST, GROUP_LIST)].into_iter().chain(above) {
            let Ok(metadata) = fs::metadata(path) else {
                if path == directory {
                    problems.push(format!("{} does not exist now; is its disk mounted?", path.display()));
                }
                continue;
            };
            match Need::of(metadata.mode(), metadata.gid(), others, group) {
                Need::Nothing => {}
                Need::Group(id) => {
                    groups.insert(name(&names, id));
                }
                Need::RootsGroup => {
                    problems.push(roots(path, if path == directory { "rx" } else { "x" }));
                }
                Need::Owner => problems.push(locked(path)),
            }
        }
        if problems.is_empty() {
            access.groups.append(&mut groups);
        }
        access.problems.append(&mut problems);
    }
    access
}

fn roots(path: &Path, rights: &str) -> String {
    format!(
        "only root and its group can enter {0}, and the agent does not join that group; unless an ACL \
         already gives the agent access, run: setfacl -m u:{NAME}:{rights} {0}",
        path.display()
    )
}

fn locked(path: &Path) -> String {
    format!("only its owner can read {0}; run: chmod g+rx {0}, and install again", path.display())
}

/// The name of a group, or its number if it has none (group(5)).
fn name(groups: &str, id: u32) -> String {
    let id = id.to_string();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _ = fields.next()?;
        let number = fields.next()?;
        (number == id).then(|| name.to_owned())
    });
    named.unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_group_has_a_name_or_a_number() {
        let groups = "root:x:0:\nasterisk:x:995:\nbroken\n";
        assert_eq!((name(groups, 995), name(groups, 7)), ("asterisk".to_owned(), "7".to_owned()));
    }

    #[test]
    fn the_group_of_root_is_never_joined() {
        assert_eq!(Need::of(0o750, 0, OTHERS_LIST, GROUP_LIST), Need::RootsGroup);
        assert_eq!(Need::of(0o710, 0, OTHERS_ENTER, GROUP_ENTER), Need::RootsGroup);
        assert_eq!(Need::of(0o750, 995, OTHERS_LIST, GROUP_LIST), Need::Group(995));
        assert_eq!(Need::of(0o755, 0, OTHERS_LIST, GROUP_LIST), Need::Nothing);
        assert_eq!(Need::of(0o700, 0, OTHERS_ENTER, GROUP_ENTER), Need::Owner);
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        if chown(dir.path(), None, Some(0)).is_ok() {
            let access = access(&[dir.path().to_owned()]);
            assert!(
                access.groups.is_empty() && access.problems[0].contains("setfacl -m u:audiovault-agent:rx")
            );
        }
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
        let shared = make("group", 0o750);
        // A directory that root creates belongs to root's group.
        let _ = chown(&shared, None, Some(995));
        let group = access(std::slice::from_ref(&shared));
        assert_eq!((group.groups.len(), group.problems.len()), (1, 0));
        assert!(access(&[make("locked", 0o700)]).problems[0].contains("chmod g+rx"));
        let behind = shared.join("behind");
        fs::create_dir(&behind).unwrap();
        fs::set_permissions(&behind, fs::Permissions::from_mode(0o700)).unwrap();
        let useless = access(&[behind]);
        assert_eq!((useless.groups.len(), useless.problems.len()), (0, 1), "it would open nothing");
        assert!(access(&[dir.path().join("gone")]).problems[0].contains("mounted"));
    }
}
