//! Secrets that are read from a file, an argument or the environment.

use std::{
    fmt,
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest file with one secret in bytes. A secret is one line; a larger file is the wrong file.
const MAX_SECRET_FILE: u64 = 4096;
/// Permission bits that let users other than the owner and its group read.
const WORLD_READABLE: u32 = 0o004;

/// Why a secret cannot be read. The secret is never part of the text.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the secret file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file holds no secret.
    #[error("the secret file {} must contain one line of text and nothing else", .0.display())]
    NotOneLine(PathBuf),
}

/// A text that must not be shown: wiped on drop, absent from `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a file that holds one line; white space around the text is ignored.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_SECRET_FILE + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        let secret = Self::new(text.trim());
        let too_long = text.len() > usize::try_from(MAX_SECRET_FILE).unwrap_or(usize::MAX);
        text.zeroize();
        if secret.0.is_empty() || too_long || secret.0.contains(char::is_control) {
            return Err(SecretError::NotOneLine(path.to_owned()));
        }
        Ok(secret)
    }

    /// The text, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A warning if every user of the machine can read this file.
pub fn permission_warning(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & WORLD_READABLE != 0).then(|| {
        format!("every user of this machine can read the secret in {0}; run: chmod o-rwx {0}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "  hunter22 \n").unwrap();
        assert_eq!(Secret::read(&path).unwrap().reveal(), "hunter22");
        for bad in ["", "\n", "a\nb\n", &"x".repeat(5000)] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(Secret::read(&path), Err(SecretError::NotOneLine(_))));
        }
        assert!(matches!(Secret::read(&dir.path().join("none")), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_pointed_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "hunter22").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(permission_warning(&path).unwrap().contains("chmod"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(permission_warning(&path), None);
    }

    #[test]
    fn debug_never_shows_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter22")), "Secret(…)");
    }
}
