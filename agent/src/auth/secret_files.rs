//! Reads the files that hold secrets: one secret, or a tenants file.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use audiovault_agent_core::{
    secret::{MAX_SECRET_FILE, Secret},
    tenants::{Tenants, TenantsError},
};
use audiovault_common::advice::{Advice, Warning};
use zeroize::Zeroizing;

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
        source: io::Error,
    },
    /// The file holds no secret.
    #[error("the secret file {} must contain one line of text and nothing else", .0.display())]
    NotOneLine(PathBuf),
}

/// Why a tenants file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TenantsFileError {
    /// The file cannot be read.
    #[error("the tenants file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content is not that of a tenants file.
    #[error(transparent)]
    Content(#[from] TenantsError),
}

impl Advice for TenantsFileError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unreadable { .. } => None,
            Self::Content(error) => error.advice().map(Cow::from),
        }
    }
}

/// Reads a file that holds one line; white space around the text is ignored.
///
/// # Errors
/// [`SecretError`].
pub fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET_FILE as u64 + 1).read_to_string(&mut text))
        .map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
    Secret::parse(&text).map_err(|_| SecretError::NotOneLine(path.to_owned()))
}

/// Reads a tenants file.
///
/// # Errors
/// [`TenantsFileError`].
pub fn read_tenants(path: &Path) -> Result<Tenants, TenantsFileError> {
    let text = fs::read(path).map(Zeroizing::new);
    let text = text.map_err(|source| TenantsFileError::Unreadable { path: path.to_owned(), source })?;
    Ok(Tenants::parse(&text)?)
}

/// A warning if every user of the machine can read this file.
pub fn permission_warning(path: &Path) -> Option<Warning> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & WORLD_READABLE != 0).then(|| {
        let path = path.display();
        Warning::new(
            format!("every user of this machine can read the secret in {path}"),
            format!("run: chmod o-rwx {path}"),
        )
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
        assert_eq!(read_secret(&path).unwrap().reveal(), "hunter22");
        for bad in ["", "\n", "a\nb\n", &"x".repeat(5000)] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(read_secret(&path), Err(SecretError::NotOneLine(_))));
        }
        assert!(matches!(read_secret(&dir.path().join("none")), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_secret_that_all_users_can_read_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "hunter22").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(permission_warning(&path).unwrap().to_string().contains("chmod"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(permission_warning(&path), None);
    }
}
