//! The command line of `audiovault-relay`; [`crate::app::config`] checks the values of `serve`.

pub mod account;
pub mod data;
pub mod health;
pub mod site;

use std::io::{self, Write};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

pub use self::{
    account::{PasswordArgs, RightsArgs, TokenArgs, TokenCommand, UserArgs, UserCommand},
    data::{AuditArgs, AuditCommand, BackupArgs, ImportArgs},
    health::HealthArgs,
    site::{AliasCommand, SiteArgs, SiteCommand},
};
pub use crate::app::config::settings::ServeArgs;
use crate::{
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
    /// Parses the arguments of this process. Prints help and version on request, and a mistake as one line on standard
    /// error. In these cases the process should exit with the returned code.
    ///
    /// # Errors
    /// The exit code: 0 for help and version, 2 for a mistake.
    pub fn from_process() -> Result<Self, u8> {
        Self::try_parse().map_err(|error| {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // If the terminal is closed, there is no other place to print this.
            let asked_for_help = matches!(
                error.kind(),
                ErrorKind::DisplayHelp
                    | ErrorKind::DisplayVersion
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            let _ =
                if asked_for_help { error.print() } else { writeln!(io::stderr(), "{}", one_line(&error)) };
            code
        })
    }
}

/// The message of a parse error, without the usage lines below it. Passwords are removed, since the message repeats
/// what was typed.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    format!("{} (see --help)", without_passwords(&message.join(" ")))
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
    fn a_mistake_is_told_in_one_line() {
        for (line, about) in [
            ("audiovault-relay serve --bnd 127.0.0.1:0", "unexpected argument '--bnd'"),
            ("audiovault-relay site add", "<SITE>"),
            ("audiovault-relay site add Not_A_Label", "must be a DNS label"),
            ("audiovault-relay site show search", "reserved"),
            ("audiovault-relay dance", "dance"),
            ("audiovault-relay backup f --database postgres://u:s3cr3t@h", "postgres://u:…@h"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            let message = one_line(&error);
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(message.starts_with("error: ") && message.contains(about), "{message}");
            assert_eq!(error.exit_code(), 2);
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
