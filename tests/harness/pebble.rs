//! Pebble, the ACME server with which Let's Encrypt tests, and the name server with which it finds the relay.

use std::{net::SocketAddr, path::PathBuf};

use reqwest::Certificate;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    address::free_address,
    process::{Process, installed},
    relay::Certificate as OwnCertificate,
};

/// A running ACME server.
#[derive(Debug)]
pub struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    certificate: OwnCertificate,
    /// The program. It logs every order.
    pub process: Process,
    _names: Process,
    _dir: TempDir,
}

impl Pebble {
    /// Starts a server that verifies every name at `relay` and issues certificates that are valid for `validity`
    /// seconds. `None`, recorded as skipped, if Pebble is not installed.
    pub async fn start(relay: SocketAddr, validity: u64) -> Option<Self> {
        if !installed("pebble") || !installed("pebble-challtestsrv") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (address, management, dns) = (free_address(), free_address(), free_address());
        let certificate =
            OwnCertificate::make(dir.path(), &[&address.ip().to_string(), &management.ip().to_string()]);
        let config = json!({ "pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": certificate.certificate,
            "privateKey": certificate.key,
            "httpPort": 1,
            "tlsPort": relay.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": validity,
        }});
        let file = dir.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).expect("a file");
        let names = Process::start_program(
            "pebble-challtestsrv".as_ref(),
            &[
                "-dns01".to_owned(),
                dns.to_string(),
                "-defaultIPv4".to_owned(),
                relay.ip().to_string(),
                "-defaultIPv6=".to_owned(),
                "-http01=".to_owned(),
                "-https01=".to_owned(),
                "-tlsalpn01=".to_owned(),
                "-management".to_owned(),
                free_address().to_string(),
            ],
            &[],
        );
        let arguments =
            ["-config".to_owned(), file.display().to_string(), "-dnsserver".to_owned(), dns.to_string()];
        // Pebble's random waits and refusals would only make the test longer.
        let calm = [("PEBBLE_VA_NOSLEEP", "1".to_owned()), ("PEBBLE_WFE_NONCEREJECT", "0".to_owned())];
        let process = Process::start_program("pebble".as_ref(), &arguments, &calm);
        process.wait_for("ACME directory available").await;
        Some(Self { address, management, certificate, process, _names: names, _dir: dir })
    }

    /// The value of `--acme-directory`.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The value of `--acme-cacert`.
    pub fn cacert(&self) -> PathBuf {
        self.certificate.certificate.clone()
    }

    /// The certificate of the authority that signs the issued certificates, in PEM.
    pub async fn root(&self) -> Vec<u8> {
        let own = std::fs::read(&self.certificate.certificate).expect("the certificate");
        let own = Certificate::from_pem(&own).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_only([own]).build().expect("a client");
        let root =
            client.get(format!("https://{}/roots/0", self.management)).send().await.expect("an answer");
        root.bytes().await.expect("a body").to_vec()
    }
}
