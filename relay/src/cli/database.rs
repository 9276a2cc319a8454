//! The argument that names the database of a command.

use clap::Args;

use crate::store::DatabaseUrl;

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
