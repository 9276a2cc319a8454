//! The flag of the dialect file.

use std::path::PathBuf;

use clap::Args;

/// The field mapping.
#[derive(Debug, Args)]
pub struct DialectArgs {
    /// Dialect file (TOML): other names for the fields of a search, and another form of its response
    #[arg(long, value_name = "FILE", help_heading = "QueueMetrics")]
    pub dialect: Option<PathBuf>,
    /// Log the names of all fields of each search, and which of them are unknown; values are never logged
    #[arg(long, help_heading = "QueueMetrics")]
    pub verbose_search: bool,
}
