//! What can go wrong when somebody proves who they are.

use std::time::Duration;

use crate::store::StoreError;

/// Why a password could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many others are at it.
    #[error("too many logins are under way: try again in a moment")]
    Busy,
    /// The stored hash is none, or the computation failed.
    #[error("a password could not be judged: set it again")]
    Failed,
}

/// Why somebody is not logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such user, or another password. One answer for both.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// Too many attempts.
    #[error("too many attempts: wait a moment and try again")]
    Throttled {
        /// How long to wait.
        wait: Duration,
    },
    /// The password could not be judged.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
