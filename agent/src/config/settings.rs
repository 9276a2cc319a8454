//! All settings in one place: the flags of the command line as an example file and as a table.

use std::fmt::Write;

use clap::{Arg, ArgAction, CommandFactory};

use super::{
    args::Cli,
    layers::{CONFIGURABLE, PREFIXES, variable},
};

/// Keys that nearly every agent needs, as in the example file; all others are commented out there.
const ESSENTIAL: [(&str, &str); 5] = [
    ("relay", "\"wss://relay.example.com\""),
    ("site-key-file", "\"/etc/audiovault-agent/site-key\""),
    ("path", "[\"file:/var/spool/asterisk/monitor/%YY/%MM/%DD\"]"),
    ("timezone", "\"Europe/Madrid\""),
    ("token-file", "\"/etc/audiovault-agent/search-token\""),
];
/// Line length of the comments in the example file.
const WIDTH: usize = 110;

const HEAD: &str = "\
# The configuration of audiovault-agent: /etc/audiovault-agent/agent.toml, or the file that --config names. The agent
# reads it again when it changes. Every key is also a flag (relay: --relay) and an environment variable
# (AUDIOVAULT_AGENT_RELAY). A flag wins over the environment, and the environment wins over this file. An unknown key
# is an error.
#
# Lines that are commented out show the default, or a value in CAPITALS if there is no default.
";

const REFERENCE_HEAD: &str = "\
# Settings of the agent

Every setting is a flag of the command, an environment variable, and a key of the configuration file (`--config`, or
`/etc/audiovault-agent/agent.toml` for an installed agent). A flag wins over the environment, and the environment wins
over the file. An unknown key is an error. A list is comma-separated text or an array. `audiovault-agent config check`
checks a configuration, and `audiovault-agent config example` prints a file to start from. Without `AGENT_`, the names
of the variables are older; they still count where the ones below are not set.

`audiovault-agent config reference` generates this page.
";

/// A setting as the command line describes it.
struct Setting {
    key: String,
    heading: String,
    help: String,
    /// The placeholder for its value: `FILE`.
    value: String,
    default: Option<String>,
    kind: Kind,
    /// The only command that has it, unless both do.
    only: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    One,
    Many,
}

/// A configuration file with every key, its meaning and its default.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut heading = String::new();
    for setting in all().into_iter().filter(|setting| setting.key != "config") {
        if setting.heading != heading {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n\n### {}{}\n", setting.heading, setting.whose());
            heading.clone_from(&setting.heading);
        }
        let _ = write!(text, "\n{}", comment(&setting.help));
        let essential = ESSENTIAL.iter().find(|(key, _)| *key == setting.key);
        let _ = match essential {
            Some((key, value)) => writeln!(text, "{key} = {value}"),
            None => writeln!(text, "#{} = {}", setting.key, setting.shown()),
        };
    }
    text
}

/// Every setting as a table in Markdown.
pub fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    let mut heading = String::new();
    for setting in all() {
        if setting.heading != heading {
            let _ = write!(text, "\n## {}{}\n\n", setting.heading, setting.whose());
            text.push_str("| key | flag | variable | default | |\n|---|---|---|---|---|\n");
            heading.clone_from(&setting.heading);
        }
        let Setting { key, help, value, default, kind, .. } = &setting;
        let variable = variable(PREFIXES[0], key);
        let flag = if *kind == Kind::Switch { format!("--{key}") } else { format!("--{key} {value}") };
        let default = default.as_ref().map(|default| format!("`{default}`")).unwrap_or_default();
        let key = if key == "config" { String::new() } else { format!("`{key}`") };
        let help = help.replace('|', "\\|");
        let _ = writeln!(text, "| {key} | `{flag}` | `{variable}` | {default} | {help} |");
    }
    text
}

impl Setting {
    fn of(arg: &Arg, only: Option<&'static str>) -> Option<Self> {
        let key = arg.get_long()?.to_owned();
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Append => Kind::Many,
            ArgAction::Set => Kind::One,
            // Help has no value to set, and no setting has one of the other actions.
            ArgAction::SetFalse
            | ArgAction::Count
            | ArgAction::Help
            | ArgAction::HelpShort
            | ArgAction::HelpLong
            | ArgAction::Version
            | _ => return None,
        };
        let choices = arg.get_possible_values();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let one_of: Vec<&str> = choices.iter().map(clap::builder::PossibleValue::get_name).collect();
        let help = if one_of.is_empty() || kind == Kind::Switch {
            help
        } else {
            format!("{help}; one of {}", one_of.join(", "))
        };
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        Some(Self {
            heading: arg.get_help_heading().unwrap_or("Other").to_owned(),
            help,
            value: value.unwrap_or_else(|| key.to_uppercase()),
            default: default.filter(|_| kind != Kind::Switch),
            kind,
            only,
            key,
        })
    }

    /// The suffix of its heading: the command that alone has these settings. All settings of a heading have the same.
    fn whose(&self) -> String {
        self.only.map(|command| format!(" (only `{command}`)")).unwrap_or_default()
    }

    /// Its default in the form of the file, or the placeholder for its value.
    fn shown(&self) -> String {
        let quoted = |text: &str| match text.parse::<i64>() {
            Ok(number) => number.to_string(),
            Err(_) => toml::Value::from(text).to_string(),
        };
        match (self.kind, &self.default) {
            (Kind::Switch, _) => "false".to_owned(),
            (Kind::One | Kind::Many, Some(default)) => quoted(default),
            (Kind::One, None) => quoted(&self.value),
            (Kind::Many, None) => format!("[{}]", quoted(&self.value)),
        }
    }
}

/// Every setting of `tunnel` and `serve`, by heading, in the order of the command line.
fn all() -> Vec<Setting> {
    let cli = Cli::command();
    let mut settings: Vec<Setting> = Vec::new();
    for name in CONFIGURABLE {
        let arguments = cli.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
        for setting in arguments.filter_map(|arg| Setting::of(arg, Some(name))) {
            match settings.iter_mut().find(|known| known.key == setting.key) {
                Some(known) => known.only = None,
                None => settings.push(setting),
            }
        }
    }
    let headings: Vec<String> = settings.iter().map(|setting| setting.heading.clone()).collect();
    settings.sort_by_key(|setting| headings.iter().position(|heading| *heading == setting.heading));
    settings
}

fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut column = 1;
    for word in text.split_whitespace() {
        if column + 1 + word.chars().count() > WIDTH {
            lines.push_str("\n#");
            column = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        column += 1 + word.chars().count();
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs, path::Path};

    use toml::Table;

    use super::*;
    use crate::config::{args::Command, layers};

    /// The example file with every key uncommented.
    fn everything() -> String {
        let key = |line: &str| {
            let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
            (!key.contains(' ')).then(|| line.trim_start_matches('#').to_owned())
        };
        example().lines().map(|line| key(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
    }

    #[test]
    fn the_example_is_a_configuration_file_of_a_tunnel() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, example()).unwrap();
        let argv = ["agent", "tunnel", "--config"].map(OsString::from);
        let cli =
            layers::read(argv.into_iter().chain([path.into()]), |_| None, Path::new("/nowhere")).unwrap();
        let Command::Tunnel(args) = cli.command else { panic!("not a tunnel") };
        assert_eq!(args.relay, ["wss://relay.example.com"]);
        assert_eq!(args.storage.path, ["file:/var/spool/asterisk/monitor/%YY/%MM/%DD"]);
    }

    #[test]
    fn the_example_has_every_key_once_with_its_default() {
        let table: Table = toml::from_str(&everything()).unwrap();
        let keys: Vec<String> =
            all().into_iter().map(|setting| setting.key).filter(|key| key != "config").collect();
        assert_eq!(table.len(), keys.len());
        assert!(keys.iter().all(|key| table.contains_key(key)), "{table}");
        assert_eq!(table["max-streams"].as_integer(), Some(256));
        assert_eq!(table["link-ttl"].as_str(), Some("2h"));
        assert_eq!(table["allow-plaintext"].as_bool(), Some(false));
        assert!(table["max-rate"].is_array());
        assert!(!example().contains("\n#relay"));
    }

    #[test]
    fn the_page_of_settings_is_true() {
        let page = include_str!("../../SETTINGS.md");
        assert!(page == reference(), "run: audiovault-agent config reference > agent/SETTINGS.md");
        assert!(page.contains(
            "| `bind-to` | `--bind-to HOST:PORT` | `AUDIOVAULT_AGENT_BIND_TO` | `127.0.0.1:4040` |"
        ));
        assert!(page.contains("## Listener (only `serve`)") && page.contains("## Recordings\n"));
        for one in all() {
            assert!(
                all().iter().all(|other| other.heading != one.heading || other.only == one.only),
                "{}",
                one.key
            );
        }
    }
}
