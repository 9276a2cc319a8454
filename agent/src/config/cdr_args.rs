//! The flags of the call records, which link calls.

use std::{borrow::Cow, path::PathBuf};

use audiovault_agent_core::secret::Secret;
use audiovault_common::advice::{Advice, Warning};
use clap::Args;
use url::Url;

use crate::{
    auth::secret_files::{SecretError, permission_warning, read_secret},
    storage::linked_calls::{Cdr, CdrError, CdrSettings},
};

/// The call detail records.
#[derive(Debug, Args)]
pub struct CdrArgs {
    /// Asterisk's call records, which link the legs of a conversation: mysql://USER@HOST/asteriskcdrdb (TLS options
    /// for a database on another machine: ssl-ca=FILE, ssl-mode=…), or the path of a Master.csv; the agent only reads
    /// them
    #[arg(long, value_name = "URL|FILE", help_heading = "Recordings", value_parser = secret)]
    pub cdr: Option<Secret>,
    /// File with the password for the database of --cdr
    #[arg(long, value_name = "FILE", help_heading = "Recordings")]
    pub cdr_password_file: Option<PathBuf>,
}

/// Why the settings of the call records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CdrArgsError {
    /// The value is neither an address nor a file.
    #[error("--cdr must be mysql://USER@HOST/DATABASE or the absolute path of a file")]
    Neither,
    /// The password cannot be read.
    #[error("--cdr-password-file")]
    Password(#[from] SecretError),
    /// The address is invalid.
    #[error("--cdr")]
    Address(#[from] CdrError),
}

impl Advice for CdrArgsError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Neither | Self::Password(_) => None,
            Self::Address(error) => error.advice(),
        }
    }
}

impl CdrArgsError {
    /// The flags that can set the value.
    pub(super) fn flags(&self) -> &[&'static str] {
        match self {
            Self::Neither | Self::Address(_) => &["cdr"],
            Self::Password(_) => &["cdr-password-file"],
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that clap asks of a value parser")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    // The address may contain a password.
    Ok(Secret::new(text))
}

/// Checks the settings of the call records.
///
/// # Errors
/// [`CdrArgsError`].
pub(super) fn settings(
    args: &CdrArgs,
    warnings: &mut Vec<Warning>,
) -> Result<Option<CdrSettings>, CdrArgsError> {
    let Some(text) = args.cdr.as_ref().map(Secret::reveal) else { return Ok(None) };
    if !text.contains("://") {
        return if text.starts_with('/') {
            Ok(Some(CdrSettings::MasterCsv(text.into())))
        } else {
            Err(CdrArgsError::Neither)
        };
    }
    let mut url = Url::parse(text).map_err(|_| CdrArgsError::Neither)?;
    if url.scheme() != "mysql" || url.path().len() < 2 {
        return Err(CdrArgsError::Neither);
    }
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut password = url.password().map(|password| Secret::new(decoded(password)));
    if let Some(path) = &args.cdr_password_file {
        warnings.extend(permission_warning(path));
        password = Some(read_secret(path)?);
    }
    url.set_password(None).map_err(|()| CdrArgsError::Neither)?;
    let settings = CdrSettings::MySql { url, password };
    Cdr::new(&settings)?;
    Ok(Some(settings))
}
