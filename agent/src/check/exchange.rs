//! Sends one HTTP/1.1 request over an open connection and reads the response.

use std::{borrow::Cow, time::Duration};

use audiovault_common::advice::Advice;
use audiovault_protocol::limits::RELAY_DEADLINE;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{task::JoinSet, time::timeout};
use url::Url;

use crate::net::{Outbound, ReachError, Stream, Target};

/// How long a response may take. A relay waits less than this for its agent, and then responds itself.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(RELAY_DEADLINE.as_secs() + 5);
/// Longest response in bytes: far more than the links of one call, or the part of a recording that is requested.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The service cannot be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The address is invalid.
    #[error("{0} is not a valid address")]
    Address(String),
    /// The other end does not speak HTTP, or closed the connection.
    #[error("no HTTP response")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No response came in time.
    #[error("no response within {} s", RESPONSE_TIMEOUT.as_secs())]
    Timeout,
}

impl Advice for ExchangeError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Reach(error) => error.advice(),
            Self::Address(_) => Some("check the relay's --public-url".into()),
            Self::Http(_) | Self::Timeout => {
                Some("check the network between this machine and the relay".into())
            }
        }
    }
}

/// Connects to the host of an address and sends the request. Host and path come from the address, not from the request.
pub(super) async fn ask(
    outbound: &Outbound,
    url: &Url,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, ExchangeError> {
    let target = Target::of(url).ok_or_else(|| ExchangeError::Address(url.to_string()))?;
    let reached = outbound.reach(&target).await?;
    on(reached.stream, url, request).await
}

/// Sends the request over a connection.
pub(super) async fn on(
    stream: Stream,
    url: &Url,
    mut request: Request<Bytes>,
) -> Result<Response<Bytes>, ExchangeError> {
    let address = || ExchangeError::Address(url.to_string());
    let target = Target::of(url).ok_or_else(address)?;
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    *request.uri_mut() = path.parse().map_err(|_| address())?;
    let host = HeaderValue::from_str(&target.to_string()).map_err(|_| address())?;
    let agent = HeaderValue::from_static(concat!("audiovault-agent/", env!("CARGO_PKG_VERSION")));
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    headers.insert(header::USER_AGENT, agent);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    timeout(RESPONSE_TIMEOUT, exchange(stream, request)).await.unwrap_or(Err(ExchangeError::Timeout))
}

async fn exchange(stream: Stream, request: Request<Bytes>) -> Result<Response<Bytes>, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    // The connection ends with this function.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request.map(Full::new)).await.map_err(no_http)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(ExchangeError::Http)?.to_bytes();
    Ok(Response::from_parts(head, body))
}

fn no_http(error: hyper::Error) -> ExchangeError {
    ExchangeError::Http(Box::new(error))
}
