//! `health`: asks a running relay whether it is ready, for containers and monitors that have no HTTP client.

use std::time::Duration;

use reqwest::{Client, redirect::Policy};
use url::{Host, Url};

/// How long the relay may take to answer; container engines give up after about as long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a relay does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address cannot be asked.
    #[error("--url: {0:?}: expected an address such as http://127.0.0.1:8090/readyz")]
    Url(String),
    /// Nobody who can be understood answers there.
    #[error("cannot ask {url}: check that the relay runs, its --admin-bind and whether it speaks TLS there")]
    Ask {
        /// Who was asked.
        url: Url,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The answer does not come.
    #[error("{0} does not answer: the relay hangs or is overloaded")]
    Timeout(Url),
    /// The relay says that it is not ready.
    #[error("not ready: {url} answers {status}")]
    NotReady {
        /// Who was asked.
        url: Url,
        /// The HTTP status.
        status: u16,
    },
}

/// Asks once. A relay on this machine is asked by its address, which no certificate names: there it is not looked at.
///
/// # Errors
/// [`HealthError`] unless the answer is a 2xx status within five seconds.
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
    // What is asked is this machine or a host of the operator's: no proxy stands between.
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
    use crate::net::listen::{Gate, start_plain};

    async fn listening() -> String {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let router = Router::new()
            .route("/readyz", get(|| async { "ready" }))
            .route("/busy", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
        let gate = Arc::new(Gate::new(10, 10, Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = start_plain(listener, &gate, router).unwrap();
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
    async fn what_cannot_be_asked_is_told_apart() {
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
