//! Opens the database that a command names.

use super::{DatabaseUrl, IfMissing, OpenError, Store, open};

/// Why a command has no database to work on.
#[derive(Debug, thiserror::Error)]
pub enum NoDatabase {
    /// The command does not name one.
    #[error("--database is required: set the flag or AUDIOVAULT_RELAY_DATABASE")]
    NotNamed,
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl NoDatabase {
    /// The exit code of the process: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotNamed => 2,
            Self::Open(_) => 1,
        }
    }
}

/// Opens the database that a command names, if it names one.
///
/// # Errors
/// [`NoDatabase`].
pub async fn open_named(url: Option<&DatabaseUrl>, if_missing: IfMissing) -> Result<Store, NoDatabase> {
    Ok(open(url.ok_or(NoDatabase::NotNamed)?, if_missing).await?)
}
