//! Merges flags, environment and file, in this order of priority. What the command line leaves open is filled in from
//! `AUDIOVAULT_AGENT_<FLAG>` and then from the TOML file, as if it had been typed. So every value passes the same checks,
//! and no flag is described twice.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, parser::ValueSource};
use toml::{Table, Value};

use super::args::Cli;

/// Flags that set the same value in two ways. Giving one overrides the other in a weaker layer.
const ALTERNATIVES: [[&str; 2]; 2] = [["token", "token-file"], ["site-key", "site-key-file"]];
/// Commands whose flags can be set in environment and file. Other commands share these flags.
pub(super) const CONFIGURABLE: [&str; 2] = ["tunnel", "serve"];

/// Commands that create or remove a configuration file; for them only the typed flags count.
const UNLAYERED: [&str; 2] = ["install", "uninstall"];

/// The flag that names the file. It is the only one that the file cannot contain.
const CONFIG: &str = "config";
/// What the names of variables begin with; the first one that is set counts. The shorter one is older. It stays as an
/// alias, although some of its names begin like those of the relay.
pub(super) const PREFIXES: [&str; 2] = ["AUDIOVAULT_AGENT_", "AUDIOVAULT_"];

/// Why the layers could not be merged into a command line.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The command line, once filled in, is wrong or asks for help.
    #[error(transparent)]
    Clap(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid TOML (line {line}): {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// The file has a key that is not a flag.
    #[error(
        "the configuration file {} has an unknown key {key:?}; keys are the flags of --help without the \
         leading dashes",
        path.display()
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A value has the wrong type.
    #[error("{0} must be text, a number, true, false, or a list of text values")]
    WrongType(String),
    /// A switch is neither on nor off.
    #[error("{0} must be true or false")]
    NotASwitch(String),
}

/// Reads the command line, filled in from `environment` and the file that `--config` names. Commands that query an
/// agent (rather than run one) use the file of the `installed` agent if no file is named and that one exists.
///
/// # Errors
/// [`LayerError`]. Requests for help and version are among clap's errors.
pub fn read(
    argv: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
    installed: &Path,
) -> Result<Cli, LayerError> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    let command = Cli::command();
    let typed = command.clone().try_get_matches_from(&argv)?;
    let (names, typed) = chosen(&typed);
    let flags = flags(&command, &names);
    let layered = names.iter().all(|name| !UNLAYERED.contains(name));
    if !layered || !flags.iter().any(|flag| flag.name == CONFIG) {
        return Ok(Cli::from_arg_matches(&command.try_get_matches_from(argv)?)?);
    }
    let mut given = given(&flags, typed);
    let mut filled = from_environment(&flags, &given, &environment)?;
    given.extend(filled.iter().map(|(flag, _)| flag.clone()));
    let named =
        |(flag, value): &(String, Option<OsString>)| (flag == CONFIG).then(|| value.clone()).flatten();
    let mut file = typed
        .get_one::<PathBuf>(CONFIG)
        .cloned()
        .or_else(|| filled.iter().find_map(named).map(PathBuf::from));
    if file.is_none() && !names.iter().any(|name| CONFIGURABLE.contains(name)) && installed.exists() {
        filled.push((CONFIG.to_owned(), Some(installed.into())));
        file = Some(installed.to_owned());
    }
    if let Some(path) = file {
        filled.extend(from_file(&path, &command, &flags, &given)?);
    }
    // After the names of the command, which come first because no flag precedes them.
    let words = filled.into_iter().map(|(flag, value)| match value {
        Some(value) => [OsStr::new("--"), OsStr::new(&flag), OsStr::new("="), &value].into_iter().collect(),
        None => OsString::from(format!("--{flag}")),
    });
    let behind = 1 + names.len();
    argv.splice(behind..behind, words.collect::<Vec<_>>());
    Ok(Cli::from_arg_matches(&command.try_get_matches_from(argv)?)?)
}

/// A flag as it was typed; a switch that is on has the value `true`.
#[derive(Clone, PartialEq, Eq)]
pub struct Typed {
    /// Its name, without the dashes.
    pub flag: String,
    /// Its values.
    pub values: Vec<String>,
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A value may be a secret.
        f.debug_tuple("Typed").field(&self.flag).finish()
    }
}

/// The flags that were typed, limited to those that a configuration file can contain.
///
/// # Errors
/// [`LayerError`].
pub fn typed(argv: impl IntoIterator<Item = OsString>) -> Result<Vec<Typed>, LayerError> {
    let command = Cli::command();
    let matches = command.clone().try_get_matches_from(argv)?;
    let (names, matches) = chosen(&matches);
    let flags = flags(&command, &names);
    let given = given(&flags, matches);
    let values = |flag: &Flag| {
        let raw = matches.get_raw(&flag.name.replace('-', "_")).into_iter().flatten();
        raw.map(|value| value.to_string_lossy().into_owned()).collect()
    };
    let typed = flags.iter().filter(|flag| given.contains(&flag.name));
    Ok(typed.map(|flag| Typed { flag: flag.name.clone(), values: values(flag) }).collect())
}

/// A flag that a command knows.
struct Flag {
    name: String,
    switch: bool,
}

type Filled = Vec<(String, Option<OsString>)>;

/// The chosen command, by its names from the outermost to the innermost, and what was typed for it.
fn chosen(mut matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let mut names = Vec::new();
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name);
        matches = inner;
    }
    (names, matches)
}

fn flags(command: &Command, names: &[&str]) -> Vec<Flag> {
    let configurable = configurable(command);
    let inner = names.iter().try_fold(command, |command, name| command.find_subcommand(name));
    let Some(command) = inner else { return Vec::new() };
    let known = command.get_arguments().filter_map(|arg| {
        let name = arg.get_long()?.to_owned();
        let switch = matches!(arg.get_action(), ArgAction::SetTrue);
        configurable.contains(&name).then_some(Flag { name, switch })
    });
    known.collect()
}

fn configurable(command: &Command) -> BTreeSet<String> {
    let commands = CONFIGURABLE.iter().filter_map(|name| command.find_subcommand(name));
    let names = commands.flat_map(Command::get_arguments).filter_map(|arg| arg.get_long().map(str::to_owned));
    names.filter(|name| name != "help").collect()
}

fn given(flags: &[Flag], typed: &ArgMatches) -> HashSet<String> {
    let source = |flag: &&Flag| typed.value_source(&flag.name.replace('-', "_"));
    flags
        .iter()
        .filter(|flag| source(flag) == Some(ValueSource::CommandLine))
        .map(|flag| flag.name.clone())
        .collect()
}

fn is_open(flag: &str, given: &HashSet<String>) -> bool {
    let decided = |pair: &[&str; 2]| pair.contains(&flag) && pair.iter().any(|other| given.contains(*other));
    !given.contains(flag) && !ALTERNATIVES.iter().any(decided)
}

/// The variable of a flag.
pub(super) fn variable(prefix: &str, flag: &str) -> String {
    format!("{prefix}{}", flag.replace('-', "_").to_ascii_uppercase())
}

fn from_environment(
    flags: &[Flag],
    given: &HashSet<String>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Filled, LayerError> {
    let mut filled = Vec::new();
    for flag in flags.iter().filter(|flag| is_open(&flag.name, given)) {
        let set = |prefix: &&str| {
            let variable = variable(prefix, &flag.name);
            let value = environment(&variable).filter(|value| !value.is_empty())?;
            Some((variable, value))
        };
        let Some((variable, value)) = PREFIXES.iter().find_map(set) else { continue };
        if !flag.switch {
            filled.push((flag.name.clone(), Some(value)));
        } else if switch(value.as_bytes()).ok_or(LayerError::NotASwitch(variable))? {
            filled.push((flag.name.clone(), None));
        }
    }
    Ok(filled)
}

fn switch(value: &[u8]) -> Option<bool> {
    match value.to_ascii_lowercase().as_slice() {
        b"1" | b"true" | b"yes" | b"on" => Some(true),
        b"0" | b"false" | b"no" | b"off" => Some(false),
        _ => None,
    }
}

fn from_file(
    path: &Path,
    command: &Command,
    flags: &[Flag],
    given: &HashSet<String>,
) -> Result<Filled, LayerError> {
    let unreadable = |source| LayerError::Unreadable { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let table: Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        LayerError::Malformed { path: path.to_owned(), line, message: error.message().to_owned() }
    })?;
    let known = configurable(command);
    let mut filled = Vec::new();
    for (key, value) in &table {
        if !known.contains(key) || key == CONFIG {
            return Err(LayerError::UnknownKey { path: path.to_owned(), key: key.clone() });
        }
        let Some(flag) = flags.iter().find(|flag| flag.name == *key) else { continue };
        if !is_open(key, given) {
            continue;
        }
        match (flag.switch, value) {
            (true, Value::Boolean(true)) => filled.push((key.clone(), None)),
            (true, Value::Boolean(false)) => {}
            (true, _) => return Err(LayerError::NotASwitch(key.clone())),
            (false, Value::Array(list)) => {
                for value in list {
                    filled.push((key.clone(), Some(word(key, value)?)));
                }
            }
            (false, value) => filled.push((key.clone(), Some(word(key, value)?))),
        }
    }
    Ok(filled)
}

fn word(key: &str, value: &Value) -> Result<OsString, LayerError> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Integer(number) => Ok(number.to_string().into()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(LayerError::WrongType(key.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::secret::Secret,
        config::{
            args::{Command as Chosen, TunnelArgs},
            ask_args::{ConfigArgs, ConfigCommand},
        },
    };

    /// A path at which no agent is installed.
    const NOWHERE: &str = "/nowhere/agent.toml";

    fn tunnel(
        typed: &[&str],
        environment: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<TunnelArgs, LayerError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let mut argv: Vec<OsString> =
            ["agent", "tunnel"].into_iter().chain(typed.iter().copied()).map(Into::into).collect();
        if let Some(file) = file {
            fs::write(&path, file).unwrap();
            argv.extend(["--config".into(), path.into()]);
        }
        let find =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let Chosen::Tunnel(args) = read(argv, find, Path::new(NOWHERE))?.command else {
            panic!("not a tunnel")
        };
        Ok(args)
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let file = Some(
            "relay = 'wss://file'\nlink-ttl = '3h'\npath = ['file:/a', 'file:/b']\nallow-plaintext = true",
        );
        let environment = [("AUDIOVAULT_RELAY", "wss://environment"), ("AUDIOVAULT_LOOK_BACK", "1h")];
        let args = tunnel(&["--relay", "wss://flag"], &environment, file).unwrap();
        assert_eq!(args.relay, ["wss://flag"]);
        assert_eq!((&*args.storage.look_back, &*args.access.link_ttl), ("1h", "3h"));
        assert_eq!(args.storage.path, ["file:/a", "file:/b"]);
        assert!(args.allow_plaintext);
        assert_eq!(tunnel(&[], &environment, file).unwrap().relay, ["wss://environment"]);
        assert_eq!(tunnel(&[], &[], file).unwrap().relay, ["wss://file"]);
        let off = [("AUDIOVAULT_ALLOW_PLAINTEXT", "false")];
        assert!(!tunnel(&[], &off, None).unwrap().allow_plaintext);
    }

    #[test]
    fn variables_have_the_prefix_of_the_agent_and_the_older_one_is_an_alias() {
        let relay = |environment: &[(&str, &str)]| tunnel(&[], environment, None).unwrap().relay;
        let own = ("AUDIOVAULT_AGENT_RELAY", "wss://own");
        let older = ("AUDIOVAULT_RELAY", "wss://older");
        assert_eq!(relay(&[own]), ["wss://own"]);
        assert_eq!(relay(&[older, own]), ["wss://own"]);
        assert_eq!(relay(&[older]), ["wss://older"]);
        assert_eq!(
            relay(&[("AUDIOVAULT_AGENT_RELAY", ""), older]),
            ["wss://older"],
            "an empty one is not set"
        );
    }

    #[test]
    fn a_token_in_one_form_outranks_the_other_form_in_a_weaker_layer() {
        let environment = [("AUDIOVAULT_TOKEN", "from-environment")];
        let file = Some("token-file = '/file'");
        let args = tunnel(&["--token-file", "/flag"], &environment, file).unwrap();
        assert_eq!((args.access.token, args.access.token_file), (None, Some("/flag".into())));
        let args = tunnel(&[], &environment, file).unwrap();
        assert_eq!(
            (args.access.token, args.access.token_file),
            (Some(Secret::new("from-environment")), None)
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = |typed: &[&str], file| tunnel(typed, &[], file).unwrap_err().to_string();
        assert!(error(&[], Some("relai = 'x'")).contains("unknown key \"relai\""));
        assert!(error(&[], Some("a = 1\nb = [")).contains("line 2"));
        assert!(error(&[], Some("relay = 1.5")).contains("relay must be text"));
        assert!(error(&[], Some("allow-plaintext = 'x'")).contains("true or false"));
        assert!(error(&["--search", "some"], None).contains("invalid value 'some'"));
        assert!(error(&[], Some("search = 'some'")).contains("invalid value 'some'"));
        let odd = [("AUDIOVAULT_ALLOW_PLAINTEXT", "perhaps")];
        assert!(tunnel(&[], &odd, None).unwrap_err().to_string().contains("AUDIOVAULT_ALLOW_PLAINTEXT"));
    }

    #[test]
    fn a_file_serves_all_commands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, "relay = 'wss://x'\nbind-to = ':1'\npath = 'file:/a'\ntoken = 'x'").unwrap();
        let argv = ["agent", "search", "1711444502.17", "--config"].map(OsString::from);
        let read =
            read(argv.into_iter().chain([path.into_os_string()]), |_| None, Path::new(NOWHERE)).unwrap();
        let Chosen::Search(args) = read.command else { panic!("not a search") };
        assert_eq!(
            (args.storage.path, args.call.id),
            (vec!["file:/a".to_owned()], "1711444502.17".to_owned())
        );
    }
    #[test]
    fn questions_about_an_agent_go_to_the_installed_one_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let installed = dir.path().join("installed.toml");
        let other = dir.path().join("other.toml");
        fs::write(&installed, "state-file = '/installed'").unwrap();
        fs::write(&other, "state-file = '/other'").unwrap();
        let read = |words: &[&str], environment: Option<&Path>| {
            let argv = ["agent"].iter().chain(words).map(OsString::from);
            let find = |name: &str| {
                environment.filter(|_| name == "AUDIOVAULT_CONFIG").map(|path| path.as_os_str().to_owned())
            };
            read(argv, find, &installed).unwrap().command
        };
        let state_file = |words: &[&str], environment| {
            let command = read(words, environment);
            if let Chosen::Config(ConfigArgs { command: ConfigCommand::Check(args) }) = command {
                args.tunnel.state_file
            } else if let Chosen::Status(args) = command {
                args.state_file
            } else {
                command.into_tunnel().unwrap().state_file
            }
        };
        assert_eq!(state_file(&["status"], None), Some("/installed".into()));
        assert_eq!(state_file(&["config", "check"], None), Some("/installed".into()));
        assert_eq!(state_file(&["status"], Some(&other)), Some("/other".into()));
        assert_eq!(
            state_file(&["config", "check", "--config", other.to_str().unwrap()], None),
            Some("/other".into())
        );
        assert_eq!(state_file(&["tunnel"], None), None);
    }
}
