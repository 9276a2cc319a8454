//! The command line of `audiovault-relay`; [`crate::app::config`] checks the values of `serve`.

pub mod account;
pub mod data;
pub mod health;
pub mod site;

use std::{
    env,
    io::{self, Write},
};

use audiovault_common::{
    advice::with_advice,
    process::Exit,
    settings::{Settings, SettingsError},
};
use clap::{Args, Parser, Subcommand, error::ErrorKind};

pub use self::{
    account::{PasswordArgs, RightsArgs, TokenArgs, TokenCommand, UserArgs, UserCommand},
    data::{AuditArgs, AuditCommand, BackupArgs, ImportArgs},
    health::HealthArgs,
    site::{AliasCommand, SiteArgs, SiteCommand},
};
pub use crate::app::config::settings::ServeArgs;
use crate::{
    app::config::settings::LAYERS,
    model::version,
    store::{DatabaseUrl, without_passwords},
};

/// Public end of the AudioVault Tunnel: serves the call recordings of sites that have no inbound port.
#[derive(Debug, Parser)]
#[command(
    name = "audiovault-relay",
    version = version(),
    max_term_width = 100,
    after_help = "To start:\n  \
        audiovault-relay serve --public-url https://relay.example.com --database sqlite:relay.db\n  \
        audiovault-relay site add acme-madrid --database sqlite:relay.db"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay until SIGTERM or SIGINT; running downloads may finish before it exits
    Serve(Box<ServeArgs>),
    /// Add, show, change and remove sites; a running relay applies changes within three seconds
    Site(SiteArgs),
    /// Add, show, change and remove users of the dashboard
    User(UserArgs),
    /// Create, show and remove API tokens
    Token(TokenArgs),
    /// Export the audit log of searches and deliveries, or erase a call from it
    Audit(AuditArgs),
    /// Copy the database to a file while the relay runs
    Backup(BackupArgs),
    /// Copy all data from one database to another, for example from a file to a server that several relays share
    Import(ImportArgs),
    /// Check that a running relay is ready; exits with 0 if it is, otherwise with 1
    Health(HealthArgs),
    /// Check a configuration, or print an example or all settings
    Config(ConfigArgs),
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check whether `serve` could use the configuration, without opening the database or a port
    Check(Box<ServeArgs>),
    /// Print a configuration file with every key, its meaning and its default
    Example,
    /// Print all settings as a Markdown table: key, flag, variable, default, meaning
    Reference,
}

/// What every command takes that works on the relay's database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// Database of the relay, as sqlite:FILE or postgres://USER@HOST/DATABASE (required)
    #[arg(
        long = "database",
        global = true,
        value_name = "URL",
        env = "AUDIOVAULT_RELAY_DATABASE",
        hide_env_values = true
    )]
    pub url: Option<DatabaseUrl>,
}

impl Cli {
    /// Reads the arguments of this process, its environment and the file of `--config`. Prints help and version on
    /// request, and a mistake as one line on standard error. In these cases the process should exit with the returned
    /// code.
    ///
    /// # Errors
    /// The exit code: 0 for help and version, 2 for a mistake.
    pub fn from_process() -> Result<Settings<Self>, u8> {
        let read = LAYERS.read::<Self>(env::args_os(), |name| env::var_os(name), None);
        read.map_err(|error| {
            if let SettingsError::Typed(error) = &error
                && asks_for_help(error)
            {
                // If the terminal is closed, there is no other place to print this.
                let _ = error.print();
                return u8::try_from(error.exit_code()).unwrap_or(Exit::Misconfigured.code());
            }
            let _ = writeln!(io::stderr(), "{}", refusal(&error));
            Exit::Misconfigured.code()
        })
    }
}

fn asks_for_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// The message of an error in one line. Passwords are removed, since the message repeats what was given.
fn refusal(error: &SettingsError) -> String {
    let hint = if matches!(error, SettingsError::Typed(_)) { " (see --help)" } else { "" };
    format!("error: {}{hint}", without_passwords(&with_advice(error)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_reported_in_one_line() {
        for (line, about) in [
            ("audiovault-relay serve --bnd 127.0.0.1:0", "unexpected argument '--bnd'"),
            ("audiovault-relay site add", "<SITE>"),
            ("audiovault-relay site add Not_A_Label", "must be a DNS label"),
            ("audiovault-relay site show search", "reserved"),
            ("audiovault-relay dance", "dance"),
            ("audiovault-relay backup f --database postgres://u:s3cr3t@h", "postgres://u:…@h"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            let code = error.exit_code();
            let message = refusal(&SettingsError::Typed(error));
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(message.starts_with("error: ") && message.contains(about), "{message}");
            assert_eq!(code, 2);
        }
    }

    #[test]
    fn every_option_and_every_command_explains_itself() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let built_in = matches!(argument.get_id().as_str(), "help" | "version");
                assert!(built_in || argument.get_help().is_some(), "{} {argument}", command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
