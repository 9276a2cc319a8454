//! The systemd unit of the agent, and the groups that it needs to read the recordings on this machine.
//!
//! The directives are those of systemd.exec(5), systemd.service(5) and systemd.resource-control(5). Older versions of
//! systemd ignore unknown directives, with a line in their log.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Layout, NAME};
use crate::limits::{BASE_FILES, FILES_PER_STREAM};

/// The unit, with placeholders for the parts that differ.
const TEMPLATE: &str = include_str!("audiovault-agent.service");
/// Memory of an idle agent in MiB, with room for counting a large archive.
const BASE_MEMORY_MIB: u32 = 128;
/// Memory that a stream may use, in MiB: two chunks of a file and the data that waits in its tunnel.
const STREAM_MEMORY_MIB: u32 = 1;

/// Where PBXs keep passwords: of trunks and extensions, of the manager interface, of their databases. The group that
/// opens recordings often opens these too, and the agent needs none of them.
///
/// The directory of MySQL is not in the list: on some systems it holds the socket by which the agent asks for call
/// records, and its files are open to its own user alone.
const CREDENTIALS: [&str; 13] = [
    // Asterisk, and systems based on it: FreePBX, Issabel, VICIdial.
    "/etc/asterisk",
    "/var/lib/asterisk/astdb.sqlite3",
    "/var/lib/asterisk/keys",
    "/etc/freepbx.conf",
    "/etc/amportal.conf",
    "/etc/issabel.conf",
    "/etc/issabelpbx.conf",
    "/etc/astguiclient.conf",
    // FreeSWITCH and FusionPBX.
    "/etc/freeswitch",
    "/usr/local/freeswitch/conf",
    "/etc/fusionpbx",
    // Their databases.
    "/etc/odbc.ini",
    "/var/lib/postgresql",
];

/// Permission bits: others may list and enter, or only enter; the same for the group.
const OTHERS_LIST: u32 = 0o005;
const OTHERS_ENTER: u32 = 0o001;
const GROUP_LIST: u32 = 0o050;
const GROUP_ENTER: u32 = 0o010;

/// The parts that differ from machine to machine.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// The user that the agent runs as.
    pub(super) user: String,
    /// The groups that may read the recordings.
    pub(super) groups: Vec<String>,
    /// The directories in which recordings lie.
    pub(super) recordings: Vec<PathBuf>,
    /// The largest number of streams at a time.
    pub(super) max_streams: u32,
}

impl Unit {
    /// The content of the unit file.
    pub(super) fn text(&self) -> String {
        let groups = match self.groups.as_slice() {
            [] => String::new(),
            groups => format!("SupplementaryGroups={}\n", groups.join(" ")),
        };
        let filled = [
            ("@PROGRAM@", Layout::program().display().to_string()),
            ("@CONFIG@", Layout::config().display().to_string()),
            ("@USER@", self.user.clone()),
            ("@GROUPS@", groups),
            ("@MEMORY@", (BASE_MEMORY_MIB + STREAM_MEMORY_MIB * self.max_streams).to_string()),
            ("@FILES@", (BASE_FILES + FILES_PER_STREAM * u64::from(self.max_streams)).to_string()),
            ("@HIDDEN@", self.hidden()),
            ("@HOMES@", self.homes().to_owned()),
            // Last, since a path may contain any text, even a placeholder.
            ("@READABLE@", self.readable()),
        ];
        filled.iter().fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// Home directories are hidden, unless recordings lie in one.
    fn homes(&self) -> &'static str {
        let homes = ["/home", "/root", "/run/user"].map(Path::new);
        let inside =
            |path: &PathBuf| homes.iter().any(|home| path.starts_with(home) || home.starts_with(path));
        if self.recordings.iter().any(inside) { "read-only" } else { "yes" }
    }

    /// Hides the PBX's passwords, unless recordings lie in the same directory. The minus makes systemd skip paths that
    /// do not exist.
    fn hidden(&self) -> String {
        let apart = |path: &&str| !self.recordings.iter().any(|recordings| recordings.starts_with(path));
        CREDENTIALS.into_iter().filter(apart).map(|path| format!("InaccessiblePaths=-{path}\n")).collect()
    }

    /// Keeps recordings read-only, even if the admin relaxes the other directives. The minus lets the agent start if
    /// a disk is not mounted at that moment.
    fn readable(&self) -> String {
        let line = |path: &PathBuf| format!("ReadOnlyPaths=\"-{}\"\n", escape(path));
        self.recordings.iter().map(line).collect()
    }
}

/// What the agent needs to read the recordings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// The groups to join.
    pub(super) groups: BTreeSet<String>,
    /// Sentences about directories that no group can open.
    pub(super) problems: Vec<String>,
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
                    groups.insert(group_name(&names, id));
                }
                Need::RootsGroup => {
                    problems.push(only_roots(path, if path == directory { "rx" } else { "x" }));
                }
                Need::Owner => problems.push(only_owners(path)),
            }
        }
        if problems.is_empty() {
            access.groups.append(&mut groups);
        }
        access.problems.append(&mut problems);
    }
    access
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

/// A path in double quotes; `%` begins a specifier in unit files.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")
}

fn only_roots(path: &Path, rights: &str) -> String {
    format!(
        "only root and its group can enter {0}, and the agent does not join that group; unless an ACL \
         already gives the agent access, run: setfacl -m u:{NAME}:{rights} {0}",
        path.display()
    )
}

fn only_owners(path: &Path) -> String {
    format!("only its owner can read {0}; run: chmod g+rx {0}, and install again", path.display())
}

/// The name of a group, or its number if it has none (group(5)).
fn group_name(groups: &str, id: u32) -> String {
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

    fn unit(recordings: &[&str], groups: &[&str]) -> String {
        let unit = Unit {
            user: "audiovault-agent".to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
            recordings: recordings.iter().map(PathBuf::from).collect(),
            max_streams: 256,
        };
        unit.text()
    }

    #[test]
    fn the_unit_names_the_groups_and_directories_of_the_recordings() {
        let text = unit(&["/var/spool/asterisk/monitor", "/mnt/a \"b\" 100%"], &["asterisk", "1001"]);
        assert!(text.contains("\nSupplementaryGroups=asterisk 1001\n"));
        assert!(text.contains("\nReadOnlyPaths=\"-/var/spool/asterisk/monitor\"\n"));
        assert!(text.contains("\nReadOnlyPaths=\"-/mnt/a \\\"b\\\" 100%%\"\n"));
        assert!(text.contains("\nProtectHome=yes\n"));
        assert!(!unit(&["/rec"], &[]).contains("SupplementaryGroups"));
    }

    #[test]
    fn passwords_of_the_pbx_are_out_of_reach_unless_recordings_lie_there() {
        let text = unit(&["/var/spool/asterisk/monitor"], &["asterisk"]);
        for path in CREDENTIALS {
            assert!(text.contains(&format!("\nInaccessiblePaths=-{path}\n")), "{path}");
        }
        let among = unit(&["/etc/asterisk/monitor", "/"], &[]);
        assert!(!among.contains("InaccessiblePaths=-/etc/asterisk\n"));
        assert!(among.contains("InaccessiblePaths=-/etc/freeswitch\n"));
        assert!(!text.contains("/var/lib/mysql"), "the socket for call records may lie there");
    }

    #[test]
    fn recordings_in_a_home_stay_readable() {
        for inside in ["/home/pbx/rec", "/root", "/"] {
            assert!(unit(&[inside], &[]).contains("\nProtectHome=read-only\n"), "{inside}");
        }
    }

    #[test]
    fn no_secret_and_no_flag_but_the_file_stands_on_the_command_line() {
        let text = unit(&["/rec"], &[]);
        let starts = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            starts,
            "ExecStart=/usr/local/bin/audiovault-agent tunnel --config /etc/audiovault-agent/agent.toml"
        );
    }

    #[test]
    fn a_group_has_a_name_or_a_number() {
        let groups = "root:x:0:\nasterisk:x:995:\nbroken\n";
        assert_eq!((group_name(groups, 995), group_name(groups, 7)), ("asterisk".to_owned(), "7".to_owned()));
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
    fn directories_open_to_all_to_a_group_or_to_the_owner_alone_are_distinguished() {
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
