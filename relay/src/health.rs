//! `health`: asks a running relay whether it is ready, for containers and monitors that have no HTTP client.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

/// How long the relay may take to answer; container engines give up after about as long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Octets of a status line, and more than enough: the reason phrase is not read.
const MAX_STATUS_LINE: u64 = 256;

/// Why a relay does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address cannot be asked.
    #[error("--url: {0:?}: expected a plain address, such as http://127.0.0.1:8090/readyz")]
    Url(String),
    /// Nobody answers there.
    #[error("cannot ask {url}: check that the relay runs and its --admin-bind")]
    Connect {
        /// Who was asked.
        url: Url,
        /// What the operating system said.
        source: io::Error,
    },
    /// The answer does not come.
    #[error("{0} does not answer: the relay hangs or is overloaded")]
    Timeout(Url),
    /// What answers speaks no HTTP.
    #[error("{0} does not speak HTTP: check the address")]
    NotHttp(Url),
    /// The relay says that it is not ready.
    #[error("not ready: {url} answers {status}")]
    NotReady {
        /// Who was asked.
        url: Url,
        /// The HTTP status.
        status: u16,
    },
}

/// Asks once.
///
/// # Errors
/// [`HealthError`] unless the answer is a 2xx status within five seconds.
pub async fn check(url: &str) -> Result<(), HealthError> {
    let wrong = || HealthError::Url(url.to_owned());
    let url = Url::parse(url).map_err(|_| wrong())?;
    if url.scheme() != "http" || url.host().is_none() {
        return Err(wrong());
    }
    let status = timeout(TIMEOUT, ask(&url))
        .await
        .map_err(|_| HealthError::Timeout(url.clone()))?
        .map_err(|source| HealthError::Connect { url: url.clone(), source })?
        .ok_or_else(|| HealthError::NotHttp(url.clone()))?;
    if (200..300).contains(&status) { Ok(()) } else { Err(HealthError::NotReady { url, status }) }
}

/// The status of the answer, or none when it is no HTTP.
async fn ask(url: &Url) -> io::Result<Option<u16>> {
    let addresses = url.socket_addrs(|| None)?;
    let mut stream = TcpStream::connect(addresses.as_slice()).await?;
    // The parsed URL holds no line breaks: they were encoded or dropped.
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        &url[url::Position::BeforePath..url::Position::AfterQuery],
        &url[url::Position::BeforeHost..url::Position::AfterPort],
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_STATUS_LINE).read_to_end(&mut answer).await?;
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| answer.strip_prefix(b"HTTP/1.0 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok());
    Ok(status)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, http::StatusCode, routing::get};

    use super::*;
    use crate::listen::{Gate, start_plain};

    async fn listening() -> String {
        let router = Router::new()
            .route("/readyz", get(|| async { "ready" }))
            .route("/busy", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
        let gate = Arc::new(Gate::new(10, 10, Vec::new()));
        let listening = start_plain("127.0.0.1:0".parse().unwrap(), &gate, router).await.unwrap();
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
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = gone.local_addr().unwrap();
        drop(gone);
        let error = check(&format!("http://{addr}/readyz")).await.unwrap_err();
        assert!(matches!(error, HealthError::Connect { .. }), "{error:?}");
        for wrong in ["", "readyz", "https://127.0.0.1/readyz"] {
            let error = check(wrong).await.unwrap_err();
            assert!(matches!(error, HealthError::Url(_)), "{error:?}");
        }
    }
}
