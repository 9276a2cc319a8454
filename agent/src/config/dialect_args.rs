//! The flag of the dialect file.

use std::path::PathBuf;

use clap::Args;

/// The asker's own words.
#[derive(Debug, Args)]
pub struct DialectArgs {
    /// TOML file with other names for the fields of a search, and another shape for its answer
    #[arg(long, value_name = "FILE", help_heading = "QueueMetrics")]
    pub dialect: Option<PathBuf>,
    /// Log the names of all fields of each search, and which of them are not known; never their values
    #[arg(long, help_heading = "QueueMetrics")]
    pub verbose_search: bool,
}
