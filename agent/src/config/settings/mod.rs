//! The settings of the agent: which commands have them in the environment and the file, and all of them as an example
//! file and as a page of tables.

use std::{ffi::OsString, path::Path};

use audiovault_common::settings::{self, Layers, Settings, SettingsError};

use super::args::Cli;

/// The layers of the agent's settings. The shorter prefix is older. It stays as an alias, although some of its names
/// begin like those of the relay.
pub const LAYERS: Layers = Layers {
    prefixes: &["AUDIOVAULT_AGENT_", "AUDIOVAULT_"],
    configurable: &["tunnel", "serve"],
    typed_only: &["install", "uninstall"],
    alternatives: &[["token", "token-file"], ["site-key", "site-key-file"]],
    blank_is_absent: false,
};

/// Keys that nearly every agent needs, as in the example file; all others are commented out there.
const ESSENTIAL: [(&str, &str); 5] = [
    ("relay", "\"wss://relay.example.com\""),
    ("site-key-file", "\"/etc/audiovault-agent/site-key\""),
    ("path", "[\"file:/var/spool/asterisk/monitor/%YY/%MM/%DD\"]"),
    ("timezone", "\"Europe/Madrid\""),
    ("token-file", "\"/etc/audiovault-agent/search-token\""),
];
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

/// Reads the command line, filled in from `environment` and from the file that `--config` names, or from the file of the
/// `installed` agent for commands that query one.
///
/// # Errors
/// [`SettingsError`]. Requests for help and version are among clap's errors.
pub fn read(
    argv: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
    installed: &Path,
) -> Result<Settings<Cli>, SettingsError> {
    LAYERS.read(argv, environment, Some(installed))
}

/// A configuration file with every key, its meaning and its default.
pub fn example() -> String {
    settings::example(HEAD, &LAYERS.settings::<Cli>(), &ESSENTIAL)
}

/// Every setting in tables of Markdown.
pub fn reference() -> String {
    settings::reference(REFERENCE_HEAD, &LAYERS.settings::<Cli>(), &LAYERS)
}

#[cfg(test)]
mod tests;
