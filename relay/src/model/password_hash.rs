//! The stored form of a password.

use std::fmt;

/// The stored form of a password: a hash with its parameters (PHC string format).
#[derive(Clone)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

impl PasswordHash {
    /// A hash from the database.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The hash with its parameters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
