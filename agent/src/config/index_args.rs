//! The flag of the index of the recordings.

use std::path::PathBuf;

use clap::Args;

/// The index.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Directory for an index of the recordings, created if it does not exist; the index makes searches fast, even
    /// among millions of recordings
    #[arg(long, value_name = "DIR", help_heading = "Recordings")]
    pub index: Option<PathBuf>,
}
