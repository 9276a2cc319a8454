//! Reloads a certificate that was renewed on disk, without a restart.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use axum_server::tls_rustls::RustlsConfig;

use super::TlsFiles;

/// How often the files are checked. Certificates are renewed weeks before they expire; the interval is seconds for the
/// operator who is watching.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Checks the files until the task is aborted.
pub(super) async fn watch(files: TlsFiles, config: RustlsConfig) {
    let mut watcher = Watcher::new(files, config);
    let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
    loop {
        ticks.tick().await;
        watcher.look().await;
    }
}

struct Watcher {
    known: [Stamp; 2],
    files: TlsFiles,
    config: RustlsConfig,
}

impl Watcher {
    fn new(files: TlsFiles, config: RustlsConfig) -> Self {
        Self { known: stamp(&files), files, config }
    }

    /// Loads the pair if it has changed. If it cannot be used, that is logged and the old one stays in use.
    async fn look(&mut self) {
        let now = stamp(&self.files);
        if now == self.known {
            return;
        }
        // The stamp is taken before the files are read, so a change in between is seen next time.
        self.known = now;
        match self.config.reload_from_pem_file(&self.files.certificate, &self.files.key).await {
            Ok(()) => tracing::info!(code = "tls.reloaded", "the certificate has changed and is in use"),
            Err(error) => {
                tracing::error!(
                    %error,
                    code = "tls.reload_failed",
                    "the new certificate cannot be used; the old one stays in use"
                )
            }
        }
    }
}

type Stamp = Option<(SystemTime, u64)>;

fn stamp(files: &TlsFiles) -> [Stamp; 2] {
    let of = |path: &Path| fs::metadata(path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
    [of(&files.certificate), of(&files.key)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn write_pair(dir: &Path, name: &str) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        super::super::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let files = write_pair(dir.path(), "first.example");
        let config = RustlsConfig::from_pem_file(&files.certificate, &files.key).await.unwrap();
        let first = config.get_inner();
        let mut watcher = Watcher::new(files.clone(), config.clone());
        fs::write(&files.certificate, "no certificate").unwrap();
        watcher.look().await;
        assert!(Arc::ptr_eq(&first, &config.get_inner()));
        write_pair(dir.path(), "second.example");
        watcher.look().await;
        assert!(!Arc::ptr_eq(&first, &config.get_inner()));
        let renewed = config.get_inner();
        watcher.look().await;
        assert!(Arc::ptr_eq(&renewed, &config.get_inner()), "what has not changed is not read again");
    }
}
