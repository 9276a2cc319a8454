//! The flag of the index of the recordings.

use std::path::PathBuf;

use clap::Args;

/// The index.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Keep an index of the recordings in this directory, which is made: searches are answered from it at once, among
    /// millions too
    #[arg(long, value_name = "DIR", help_heading = "Recordings")]
    pub index: Option<PathBuf>,
}
