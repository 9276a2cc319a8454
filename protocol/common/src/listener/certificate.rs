//! Keeps the certificate of a listener up to date.

use std::{convert::Infallible, time::Duration};

use crate::{
    error_chain::in_one_line,
    tls::{CertificateError, CertificateFiles, TlsReloader},
};

/// How often the files are compared with what is in use. They are small, and an ACME client renews them weeks before
/// the old ones expire: seconds are prompt enough.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Follows the files for ever. Open connections keep their configuration.
pub(super) async fn keep(files: CertificateFiles, mut reloader: TlsReloader) -> Infallible {
    loop {
        match reloader.reloaded().await {
            Ok(()) => tracing::info!(
                certificate = %files.certificate.display(),
                code = "tls.reloaded",
                "the certificate has changed and is in use"
            ),
            Err(error) => log_failed_reload(&error),
        }
    }
}

/// Logs that the previous certificate stays in use.
pub fn log_failed_reload(error: &CertificateError) {
    let error = in_one_line(error);
    tracing::error!(
        error,
        code = "tls.reload_failed",
        "cannot use the new certificate; the previous one stays in use"
    );
}
