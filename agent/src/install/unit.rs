//! The systemd unit of the agent.
//!
//! The directives are those of systemd.exec(5), systemd.service(5) and systemd.resource-control(5). Older versions of
//! systemd ignore unknown directives, with a line in their log.

use std::path::{Path, PathBuf};

use super::layout::Layout;
use crate::limits::process::{BASE_FILES, FILES_PER_STREAM};

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

    /// Keeps recordings readable and nothing more, even if somebody relaxes the rest. The minus lets the agent start if
    /// a disk is not mounted at that moment.
    fn readable(&self) -> String {
        let line = |path: &PathBuf| format!("ReadOnlyPaths=\"-{}\"\n", escape(path));
        self.recordings.iter().map(line).collect()
    }
}

/// A path in double quotes; `%` begins a specifier in unit files.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")
}

#[cfg(test)]
mod tests {
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
}
