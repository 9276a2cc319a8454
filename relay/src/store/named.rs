//! Opens the database that a command names.

use super::{DatabaseUrl, IfMissing, OpenError, Store, open};

/// Why a command has no database to work on.
#[derive(Debug, thiserror::Error)]
pub enum NoDatabase {
    /// Nobody said which.
    #[error("--database is required: give the flag or AUDIOVAULT_RELAY_DATABASE")]
    NotNamed,
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl NoDatabase {
    /// What the process exits with: 2 for a mistake on the command line, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotNamed => 2,
            Self::Open(_) => 1,
        }
    }
}

/// Opens the database that was named, if one was.
///
/// # Errors
/// [`NoDatabase`].
pub async fn open_named(url: Option<&DatabaseUrl>, if_missing: IfMissing) -> Result<Store, NoDatabase> {
    Ok(open(url.ok_or(NoDatabase::NotNamed)?, if_missing).await?)
}
