//! All settings of a program in one place: as an example file, and as a page of tables.

use std::fmt::Write;

use clap::{Arg, ArgAction, CommandFactory};

use super::{CONFIG, Layers};

/// Line length of the comments in the example file.
const WIDTH: usize = 110;

/// A setting as the command line describes it.
#[derive(Debug, Clone)]
pub struct Setting {
    key: String,
    heading: String,
    help: String,
    /// The placeholder for its value: `FILE`.
    value: String,
    default: Option<DefaultValue>,
    kind: Kind,
    /// The only command that has it, unless all do.
    only: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum DefaultValue {
    /// The value that clap uses.
    Value(String),
    /// A value or a sentence of the help, after `default:`.
    Words(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    One,
    Many,
}

impl Setting {
    /// The key in the file, which is the flag without its dashes.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The heading of the help under which it stands.
    pub fn heading(&self) -> &str {
        &self.heading
    }

    /// The only command that has it, unless all do.
    pub fn only(&self) -> Option<&'static str> {
        self.only
    }

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
        let (help, words) = without_default(&help);
        let help = if one_of.is_empty() || kind == Kind::Switch {
            help
        } else {
            format!("{help}; one of {}", one_of.join(", "))
        };
        let default = arg.get_default_values().first().filter(|_| kind != Kind::Switch);
        let default =
            default.map(|value| DefaultValue::Value(value.to_string_lossy().into_owned())).or(words);
        let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        Some(Self {
            heading: arg.get_help_heading().unwrap_or("Other").to_owned(),
            help,
            value: value.unwrap_or_else(|| key.to_uppercase()),
            default,
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
            (Kind::One | Kind::Many, Some(DefaultValue::Value(default))) => quoted(default),
            (Kind::One, _) => quoted(&self.value),
            (Kind::Many, _) => format!("[{}]", quoted(&self.value)),
        }
    }
}

/// The help without its last words `[default: …]`, and these words.
fn without_default(help: &str) -> (String, Option<DefaultValue>) {
    let parts = help.trim_end().strip_suffix(']').and_then(|help| help.rsplit_once(" [default: "));
    match parts {
        Some((help, default)) => (help.to_owned(), Some(DefaultValue::Words(default.to_owned()))),
        None => (help.to_owned(), None),
    }
}

impl Layers {
    /// Every setting, by heading, in the order of the command line.
    pub fn settings<C: CommandFactory>(&self) -> Vec<Setting> {
        let cli = C::command();
        let several = self.configurable.len() > 1;
        let mut settings: Vec<Setting> = Vec::new();
        for name in self.configurable {
            let arguments = cli.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
            for setting in arguments.filter_map(|arg| Setting::of(arg, several.then_some(name))) {
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
}

/// A configuration file with every key, its meaning and its default. `essential` are keys with their values that nearly
/// every installation needs; all others are commented out.
pub fn example(head: &str, settings: &[Setting], essential: &[(&str, &str)]) -> String {
    let mut text = head.to_owned();
    let mut heading = String::new();
    for setting in settings.iter().filter(|setting| setting.key != CONFIG) {
        if setting.heading != heading {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n\n### {}{}\n", setting.heading, setting.whose());
            heading.clone_from(&setting.heading);
        }
        let default = match &setting.default {
            Some(DefaultValue::Words(words)) => format!(" [default: {words}]"),
            Some(DefaultValue::Value(_)) | None => String::new(),
        };
        let _ = write!(text, "\n{}", comment(&format!("{}{default}", setting.help)));
        let essential = essential.iter().find(|(key, _)| *key == setting.key);
        let _ = match essential {
            Some((key, value)) => writeln!(text, "{key} = {value}"),
            None => writeln!(text, "#{} = {}", setting.key, setting.shown()),
        };
    }
    text
}

/// Every setting in tables of Markdown, one for each heading.
pub fn reference(head: &str, settings: &[Setting], layers: &Layers) -> String {
    let mut text = head.to_owned();
    let mut heading = String::new();
    for setting in settings {
        if setting.heading != heading {
            let _ = write!(text, "\n## {}{}\n\n", setting.heading, setting.whose());
            text.push_str("| key | flag | variable | default | |\n|---|---|---|---|---|\n");
            heading.clone_from(&setting.heading);
        }
        let Setting { key, help, value, default, kind, .. } = setting;
        let variable = layers.variable(key);
        let in_cell = |text: &str| text.replace('|', "\\|");
        let value = in_cell(value);
        let flag = if *kind == Kind::Switch { format!("--{key}") } else { format!("--{key} {value}") };
        let default = match default {
            Some(DefaultValue::Words(words)) if words.contains(' ') => words.clone(),
            Some(DefaultValue::Words(value) | DefaultValue::Value(value)) => format!("`{value}`"),
            None => String::new(),
        };
        let key = if key == CONFIG { String::new() } else { format!("`{key}`") };
        let help = in_cell(help);
        let _ = writeln!(text, "| {key} | `{flag}` | `{variable}` | {default} | {help} |");
    }
    text
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
