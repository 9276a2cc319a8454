//! The `health` command: asks a running relay whether it is ready, for containers and monitors without an HTTP client.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, redirect::Policy};
use url::{Host, Url};

/// How long the relay may take to respond. Container engines give up after about the same time.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What `health` takes.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Readiness address on the admin listener; with https, the certificate is not checked on a loopback address
    #[arg(
        long,
        value_name = "URL",
        env = "AUDIOVAULT_RELAY_HEALTH_URL",
        default_value = "http://127.0.0.1:8090/readyz"
    )]
    pub url: String,
}

/// Why a relay does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address is not an HTTP URL.
    #[error("--url: {0:?}: expected an address such as http://127.0.0.1:8090/readyz")]
    Url(String),
    /// The request failed.
    #[error(
        "cannot reach {url}: check that the relay runs, its --admin-bind, and whether that listener has TLS"
    )]
    Ask {
        /// The address of the request.
        url: Url,
        /// The error of the HTTP client.
        source: reqwest::Error,
    },
    /// There was no response in time.
    #[error("{0} did not respond in time: the relay hangs or is overloaded")]
    Timeout(Url),
    /// The relay says that it is not ready.
    #[error("the relay is not ready: {url} responded with status {status}")]
    NotReady {
        /// The address of the request.
        url: Url,
        /// The HTTP status of the response.
        status: u16,
    },
}

/// Sends one request. On a loopback address the certificate is not checked, since no certificate names that address.
///
/// # Errors
/// [`HealthError`] unless a response with a 2xx status comes within five seconds.
pub async fn check(url: &str) -> Result<(), HealthError> {
    let wrong = || HealthError::Url(url.to_owned());
    let url = Url::parse(url).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong());
    }
    let failed = |source: reqwest::Error| {
        let url = url.clone();
        if source.is_timeout() { HealthError::Timeout(url) } else { HealthError::Ask { url, source } }
    };
    // The address is on this machine or on a host of the operator, so a configured proxy is not used.
    let client = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).no_proxy();
    let client = client.danger_accept_invalid_certs(is_loopback(&url)).build().map_err(failed)?;
    let status = client.get(url.clone()).send().await.map_err(failed)?.status();
    if status.is_success() { Ok(()) } else { Err(HealthError::NotReady { url, status: status.as_u16() }) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, http::StatusCode, routing::get};

    use super::*;
    use audiovault_common::listener::{Gate, Routes, start_plain};

    async fn listening() -> String {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let router = Router::new()
            .route("/readyz", get(|| async { "ready" }))
            .route("/busy", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
        let gate = Arc::new(Gate::new(10, 10, Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = start_plain(listener, &gate, Routes(router)).unwrap();
        format!("http://{}", listening.addr)
    }

    #[tokio::test]
    async fn a_ready_relay_is_healthy_and_a_busy_one_is_not() {
        let base = listening().await;
        check(&format!("{base}/readyz")).await.unwrap();
        let error = check(&format!("{base}/busy")).await.unwrap_err();
        assert!(matches!(error, HealthError::NotReady { status: 503, .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_silent_relay_and_a_wrong_url_are_different_errors() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = gone.local_addr().unwrap();
        drop(gone);
        let error = check(&format!("http://{addr}/readyz")).await.unwrap_err();
        assert!(matches!(error, HealthError::Ask { .. }), "{error:?}");
        for wrong in ["", "readyz", "ftp://127.0.0.1/readyz"] {
            let error = check(wrong).await.unwrap_err();
            assert!(matches!(error, HealthError::Url(_)), "{error:?}");
        }
    }
}
