//! Reloads a certificate that was renewed on disk, without a restart.

use std::{convert::Infallible, time::Duration};

use audiovault_common::{error_chain::in_one_line, tls::TlsReloader};

/// How often the files are checked. Certificates are renewed weeks before they expire; the interval is seconds for the
/// operator who is watching.
pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Follows the files until the task is aborted. Open connections keep their configuration.
pub(super) async fn keep(mut reloader: TlsReloader) -> Infallible {
    loop {
        match reloader.reloaded().await {
            Ok(()) => tracing::info!(code = "tls.reloaded", "the certificate has changed and is in use"),
            Err(error) => {
                let error = in_one_line(&*error);
                tracing::error!(
                    %error,
                    code = "tls.reload_failed",
                    "the new certificate cannot be used; the old one stays in use"
                );
            }
        }
    }
}
