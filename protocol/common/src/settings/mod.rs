//! Settings of a program: flags, environment variables and a TOML file, in this order of priority.
//!
//! What the command line leaves open is filled in from the environment and then from the file, as if it had been typed.
//! So a setting is described once, as a flag of clap, and every value passes the same checks. [`Settings`] says for each
//! filled-in value where it comes from, so that an error can name the file and the line, or the variable.

mod reference;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    error::Error,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use clap::{
    ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};
use toml::{Table, Value, de::DeTable};

pub use self::reference::{Setting, example, reference};
use crate::advice::Advice;

/// The flag that names the file. It is the only setting that the file cannot contain.
const CONFIG: &str = "config";

/// Which settings a program has in its environment and its file, and how they are named there.
#[derive(Debug, Clone, Copy)]
pub struct Layers {
    /// What the names of variables begin with. The first one that is set counts; the others are older aliases.
    pub prefixes: &'static [&'static str],
    /// The commands whose flags can be set in the environment and the file. Other commands share some of these flags.
    pub configurable: &'static [&'static str],
    /// Commands that create or remove the file. For them only the typed flags count.
    pub typed_only: &'static [&'static str],
    /// Flags that set the same value in two ways. Giving one overrides the other in a weaker layer.
    pub alternatives: &'static [[&'static str; 2]],
    /// Whether a blank value counts as absent in every layer. In the environment it always does.
    pub blank_is_absent: bool,
}

/// A command line with what the environment and the file fill in.
#[derive(Debug)]
pub struct Settings<C> {
    /// The whole command line.
    pub cli: C,
    /// Where the values come from that were not typed.
    pub origins: Origins,
}

/// Where a value comes from that was not typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable, by its name.
    Variable(String),
    /// A line of the file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// The program's own choice: the file of an installed program.
    Installed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Installed => f.write_str("the installed program"),
        }
    }
}

/// The origins of the values that were not typed, by the name of the flag.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of this flag comes from. `None` if the flag was typed or has its default.
    pub fn of(&self, flag: &str) -> Option<&Origin> {
        self.0.get(flag.trim_start_matches('-'))
    }

    /// Adds to an error where the value comes from that it complains of.
    pub fn locate<E: OfSetting>(&self, error: E) -> Located<E> {
        let origin = error.flags().iter().find_map(|flag| self.of(flag)).cloned();
        Located { error, origin }
    }
}

/// An error that may concern one setting.
pub trait OfSetting: Error {
    /// The flags that can set the value, with or without their dashes. Empty if the error concerns no single setting.
    fn flags(&self) -> &[&'static str];
}

/// An error of a setting, with the file and the line, or the variable, that the value comes from.
#[derive(Debug)]
pub struct Located<E> {
    error: E,
    origin: Option<Origin>,
}

impl<E: Error> fmt::Display for Located<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.error),
            None => fmt::Display::fmt(&self.error, f),
        }
    }
}

impl<E: Error> Error for Located<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<E: Advice> Advice for Located<E> {
    fn advice(&self) -> Option<Cow<'_, str>> {
        self.error.advice()
    }
}

/// Why the layers cannot be merged into a command line. The text says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The typed command line is wrong, or asks for help or the version.
    #[error("{}", one_line(.0))]
    Typed(#[from] clap::Error),
    /// A value of the environment or the file is wrong.
    #[error("{origin}: {}", one_line(error))]
    Filled {
        /// Where the value comes from.
        origin: Origin,
        /// What clap says of it.
        error: clap::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid TOML (line {line}): {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What the parser expected, in one line.
        message: String,
    },
    /// The file has a key that is not a flag.
    #[error("{origin}: unknown key {key:?}")]
    UnknownKey {
        /// The file and the line.
        origin: Origin,
        /// The key.
        key: String,
    },
    /// A value has the wrong type.
    #[error("{origin}: {key} must be text, a number, true, false, or a list of text values")]
    WrongType {
        /// The file and the line.
        origin: Origin,
        /// The key.
        key: String,
    },
    /// A switch is neither on nor off.
    #[error("{origin}: {key} must be true or false")]
    NotASwitch {
        /// The file and the line, or the variable.
        origin: Origin,
        /// The key.
        key: String,
    },
}

impl Advice for SettingsError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unreadable { .. } => Some("check the path and its permissions".into()),
            Self::UnknownKey { .. } => Some("keys are the flags of --help without the leading dashes".into()),
            Self::Typed(_)
            | Self::Filled { .. }
            | Self::Malformed { .. }
            | Self::WrongType { .. }
            | Self::NotASwitch { .. } => None,
        }
    }
}

/// The message of clap in one line: without the usage, and without the pointer to `--help`.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    said.join(" ").trim_start_matches("error: ").to_owned()
}

/// A flag as it was typed; a switch that is on has the value `true`.
#[derive(Clone, PartialEq, Eq)]
pub struct Typed {
    /// Its name, without the dashes.
    pub flag: String,
    /// Its values.
    pub values: Vec<String>,
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value may be a secret.
        f.debug_tuple("Typed").field(&self.flag).finish()
    }
}

/// A flag that the chosen command has.
struct Flag {
    name: String,
    kind: FlagKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FlagKind {
    /// It has no value.
    Switch,
    /// Its value is `true` or `false`.
    Truth,
    /// Its value is text or a number.
    Text,
}

/// A value that was not typed; a switch that is on has none.
struct Filled {
    flag: String,
    value: Option<OsString>,
    origin: Origin,
}

impl Layers {
    /// Reads the command line, filled in from `environment` and from the file that `--config` names. Commands that query
    /// a program (rather than run one) use the file of the `installed` one if no file is named and that one exists.
    ///
    /// # Errors
    /// [`SettingsError`]. Requests for help and version are among clap's errors.
    pub fn read<C: CommandFactory + FromArgMatches>(
        &self,
        argv: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
        installed: Option<&Path>,
    ) -> Result<Settings<C>, SettingsError> {
        let command = C::command();
        let mut argv: Vec<OsString> = argv.into_iter().collect();
        if self.blank_is_absent {
            argv = self.without_blanks(&command, argv);
        }
        let matches = command.clone().try_get_matches_from(&argv)?;
        let (names, typed) = chosen(&matches);
        let flags = self.flags(&command, &names);
        let layered = !names.iter().any(|name| self.typed_only.contains(name));
        if !layered || !flags.iter().any(|flag| flag.name == CONFIG) {
            return Ok(Settings { cli: C::from_arg_matches(&matches)?, origins: Origins::default() });
        }
        let mut given = given(&flags, typed);
        let mut filled = self.fill_from_environment(&flags, &given, &environment)?;
        given.extend(filled.iter().map(|filled| filled.flag.clone()));
        let named = |filled: &Filled| filled.value.clone().filter(|_| filled.flag == CONFIG);
        let mut file = typed
            .get_one::<PathBuf>(CONFIG)
            .cloned()
            .or_else(|| filled.iter().find_map(named).map(PathBuf::from));
        let runs = names.iter().any(|name| self.configurable.contains(name));
        if let Some(installed) = installed.filter(|path| file.is_none() && !runs && path.exists()) {
            let value = Some(installed.as_os_str().to_owned());
            filled.push(Filled { flag: CONFIG.to_owned(), value, origin: Origin::Installed });
            file = Some(installed.to_owned());
        }
        if let Some(path) = file {
            filled.extend(self.fill_from_file(&path, &command, &flags, &given)?);
        }
        let words = filled.iter().map(|Filled { flag, value, .. }| match value {
            Some(value) => [OsStr::new("--"), OsStr::new(flag), OsStr::new("="), value].into_iter().collect(),
            None => OsString::from(format!("--{flag}")),
        });
        // After the names of the command, which come first because no flag precedes them.
        let behind = 1 + names.len();
        argv.splice(behind..behind, words.collect::<Vec<_>>());
        let origins = Origins(filled.into_iter().map(|filled| (filled.flag, filled.origin)).collect());
        let cli = command.try_get_matches_from(argv).and_then(|matches| C::from_arg_matches(&matches));
        let cli = cli.map_err(|error| match complained_of(&error).and_then(|flag| origins.of(&flag)) {
            Some(origin) => SettingsError::Filled { origin: origin.clone(), error },
            None => SettingsError::Typed(error),
        })?;
        Ok(Settings { cli, origins })
    }

    /// The flags that were typed, limited to those that the file can contain.
    ///
    /// # Errors
    /// [`SettingsError::Typed`].
    pub fn typed<C: CommandFactory>(
        &self,
        argv: impl IntoIterator<Item = OsString>,
    ) -> Result<Vec<Typed>, SettingsError> {
        let command = C::command();
        let matches = command.clone().try_get_matches_from(argv)?;
        let (names, matches) = chosen(&matches);
        let flags = self.flags(&command, &names);
        let given = given(&flags, matches);
        let values = |flag: &Flag| {
            let raw = matches.get_raw(&flag.name.replace('-', "_")).into_iter().flatten();
            raw.map(|value| value.to_string_lossy().into_owned()).collect()
        };
        let typed = flags.iter().filter(|flag| given.contains(&flag.name));
        Ok(typed.map(|flag| Typed { flag: flag.name.clone(), values: values(flag) }).collect())
    }

    /// The variable of a setting.
    pub fn variable(&self, flag: &str) -> String {
        variable(self.prefixes.first().copied().unwrap_or_default(), flag)
    }

    /// Every setting of the configurable commands, with its flag.
    fn configurable_arguments<'a>(
        &self,
        command: &'a Command,
    ) -> impl Iterator<Item = (String, &'a clap::Arg)> {
        let commands = self.configurable.iter().filter_map(|name| command.find_subcommand(name));
        let arguments = commands.flat_map(Command::get_arguments);
        let named = arguments.filter_map(|arg| Some((arg.get_long()?.to_owned(), arg)));
        named.filter(|(name, _)| name != "help").collect::<Vec<_>>().into_iter()
    }

    fn flags(&self, command: &Command, names: &[&str]) -> Vec<Flag> {
        let configurable: BTreeSet<String> =
            self.configurable_arguments(command).map(|(name, _)| name).collect();
        let inner = names.iter().try_fold(command, |command, name| command.find_subcommand(name));
        let arguments = inner.into_iter().flat_map(Command::get_arguments);
        let known = arguments.filter_map(|arg| {
            let name = arg.get_long()?.to_owned();
            configurable.contains(&name).then(|| Flag { name, kind: FlagKind::of(arg) })
        });
        known.collect()
    }

    /// The command line without the settings that were typed with a blank value.
    fn without_blanks(&self, command: &Command, argv: Vec<OsString>) -> Vec<OsString> {
        let valued: HashSet<String> = self
            .configurable_arguments(command)
            .filter(|(_, arg)| FlagKind::of(arg) != FlagKind::Switch)
            .map(|(name, _)| name)
            .collect();
        let is_flag = |word: &OsStr| {
            word.to_str().and_then(|word| word.strip_prefix("--")).is_some_and(|name| valued.contains(name))
        };
        let is_blank_setting = |word: &OsStr| {
            let parts = word.to_str().and_then(|word| word.strip_prefix("--")?.split_once('='));
            parts.is_some_and(|(name, value)| valued.contains(name) && value.trim().is_empty())
        };
        let mut kept = Vec::with_capacity(argv.len());
        let mut words = argv.into_iter().peekable();
        while let Some(word) = words.next() {
            if is_flag(&word) && words.next_if(|value| is_blank(value)).is_some() || is_blank_setting(&word) {
                continue;
            }
            kept.push(word);
        }
        kept
    }

    fn is_open(&self, flag: &str, given: &HashSet<String>) -> bool {
        let decided =
            |pair: &[&str; 2]| pair.contains(&flag) && pair.iter().any(|other| given.contains(*other));
        !given.contains(flag) && !self.alternatives.iter().any(decided)
    }

    fn fill_from_environment(
        &self,
        flags: &[Flag],
        given: &HashSet<String>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Vec<Filled>, SettingsError> {
        let mut filled = Vec::new();
        for flag in flags.iter().filter(|flag| self.is_open(&flag.name, given)) {
            let set = |prefix: &&str| {
                let variable = variable(prefix, &flag.name);
                let absent = |value: &OsString| value.is_empty() || self.blank_is_absent && is_blank(value);
                Some((environment(&variable).filter(|value| !absent(value))?, Origin::Variable(variable)))
            };
            let Some((value, origin)) = self.prefixes.iter().find_map(set) else { continue };
            let value = match flag.kind {
                FlagKind::Text | FlagKind::Truth => Some(value),
                FlagKind::Switch => match switch(value.as_bytes()) {
                    Some(true) => None,
                    Some(false) => continue,
                    None => return Err(SettingsError::NotASwitch { origin, key: flag.name.clone() }),
                },
            };
            filled.push(Filled { flag: flag.name.clone(), value, origin });
        }
        Ok(filled)
    }

    fn fill_from_file(
        &self,
        path: &Path,
        command: &Command,
        flags: &[Flag],
        given: &HashSet<String>,
    ) -> Result<Vec<Filled>, SettingsError> {
        let unreadable = |source| SettingsError::Unreadable { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        let malformed = |error: toml::de::Error| SettingsError::Malformed {
            path: path.to_owned(),
            line: line_at(&text, error.span().map_or(0, |span| span.start)),
            message: error.message().replace('\n', " "),
        };
        let table: Table = toml::from_str(&text).map_err(malformed)?;
        // The same document with the place of every key.
        let places = DeTable::parse(&text).map_err(malformed)?;
        let lines: BTreeMap<&str, usize> =
            places.get_ref().keys().map(|key| (&**key.get_ref(), line_at(&text, key.span().start))).collect();
        let known: BTreeSet<String> = self.configurable_arguments(command).map(|(name, _)| name).collect();
        let mut filled = Vec::new();
        for (key, value) in &table {
            let line = lines.get(key.as_str()).copied().unwrap_or(1);
            let origin = Origin::File { path: path.to_owned(), line };
            if !known.contains(key) || key == CONFIG {
                return Err(SettingsError::UnknownKey { origin, key: key.clone() });
            }
            // A key of another command is known, but has no effect here.
            let Some(flag) = flags.iter().find(|flag| flag.name == *key) else { continue };
            if !self.is_open(key, given) {
                continue;
            }
            for value in words(flag, value, &origin)? {
                let blank = self.blank_is_absent && value.as_deref().is_some_and(is_blank);
                if !blank {
                    filled.push(Filled { flag: key.clone(), value, origin: origin.clone() });
                }
            }
        }
        Ok(filled)
    }
}

impl FlagKind {
    fn of(arg: &clap::Arg) -> Self {
        let is_truth = || arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == TRUTH));
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            Self::Switch
        } else if is_truth() {
            Self::Truth
        } else {
            Self::Text
        }
    }
}

/// The placeholder of a flag whose value is `true` or `false`.
const TRUTH: &str = "BOOL";

/// A value of the file as the words that would have been typed. A switch that is off has none.
fn words(flag: &Flag, value: &Value, origin: &Origin) -> Result<Vec<Option<OsString>>, SettingsError> {
    let wrong_type = || SettingsError::WrongType { origin: origin.clone(), key: flag.name.clone() };
    let not_a_switch = || SettingsError::NotASwitch { origin: origin.clone(), key: flag.name.clone() };
    let word = |value: &Value| match value {
        Value::String(text) => Ok(Some(text.into())),
        Value::Integer(number) => Ok(Some(number.to_string().into())),
        Value::Boolean(truth) if flag.kind == FlagKind::Truth => Ok(Some(truth.to_string().into())),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(wrong_type())
        }
    };
    match (flag.kind, value) {
        (FlagKind::Switch, Value::Boolean(true)) => Ok(vec![None]),
        (FlagKind::Switch, Value::Boolean(false)) => Ok(Vec::new()),
        (FlagKind::Switch, _) => Err(not_a_switch()),
        (FlagKind::Text | FlagKind::Truth, Value::Array(list)) => list.iter().map(word).collect(),
        (FlagKind::Text | FlagKind::Truth, value) => Ok(vec![word(value)?]),
    }
}

/// The flag that an error of clap complains of, without its dashes.
fn complained_of(error: &clap::Error) -> Option<String> {
    // The text is the flag with its placeholder, such as "--bind <ADDR>".
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = argument.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    Some(flag.to_owned())
}

/// The chosen command, by its names from the outermost to the innermost, and what was typed for it.
fn chosen(mut matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let mut names = Vec::new();
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name);
        matches = inner;
    }
    (names, matches)
}

fn given(flags: &[Flag], typed: &ArgMatches) -> HashSet<String> {
    let source = |flag: &&Flag| typed.value_source(&flag.name.replace('-', "_"));
    flags
        .iter()
        .filter(|flag| source(flag) == Some(ValueSource::CommandLine))
        .map(|flag| flag.name.clone())
        .collect()
}

fn variable(prefix: &str, flag: &str) -> String {
    format!("{prefix}{}", flag.replace('-', "_").to_ascii_uppercase())
}

fn switch(value: &[u8]) -> Option<bool> {
    match value.to_ascii_lowercase().as_slice() {
        b"1" | b"true" | b"yes" | b"on" => Some(true),
        b"0" | b"false" | b"no" | b"off" => Some(false),
        _ => None,
    }
}

fn is_blank(value: &OsStr) -> bool {
    value.as_bytes().trim_ascii().is_empty()
}

/// The line of a position in bytes, counted from 1.
fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
