//! Errors of logins and of password hashing.

use std::time::Duration;

use crate::store::StoreError;

/// Why a password could not be hashed or compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many hashes are waiting.
    #[error("too many logins at the same time: try again in a moment")]
    Busy,
    /// The stored hash cannot be parsed, or the computation failed.
    #[error("cannot check the password: set a new one")]
    Failed,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The user does not exist, or the password is wrong. Both get the same text.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// Too many attempts.
    #[error("too many attempts: wait a moment and try again")]
    Throttled {
        /// How long to wait.
        wait: Duration,
    },
    /// The password could not be compared.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
