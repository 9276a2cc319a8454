//! HTTP CONNECT (RFC 9110, section 9.3.6) with Basic authentication (RFC 7617).
//!
//! hyper implements it. hyper-util's `Tunnel` would be shorter, but does not return the proxy's status and reason,
//! and an operator who asks the proxy's administrator for help needs both.

use audiovault_protocol::frame::one_line;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, ext::ReasonPhrase};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{Credentials, ProxyError};
use crate::net::{Stream, Target};

/// Longest reason of a proxy that is repeated, in characters.
const MAX_WORDS: usize = 120;

pub(super) async fn pass(
    stream: Stream,
    target: &Target,
    credentials: Option<&Credentials>,
) -> Result<Stream, ProxyError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_proxy)?;
    // Ends with this function, or with the upgrade, which takes the stream out of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection.with_upgrades());
    let response = sender.send_request(request(target, credentials)?).await.map_err(no_proxy)?;
    if !response.status().is_success() {
        return Err(refused(&response, target, credentials.is_some()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(no_proxy)?;
    let parts = upgraded.downcast::<TokioIo<Stream>>().map_err(|_| no_proxy("the connection changed"))?;
    if !parts.read_buf.is_empty() {
        return Err(no_proxy("data came too early"));
    }
    Ok(parts.io.into_inner())
}

fn request(target: &Target, credentials: Option<&Credentials>) -> Result<Request<Empty<Bytes>>, ProxyError> {
    let authority = target.to_string();
    let request = Request::connect(&authority)
        .header(header::HOST, &authority)
        .header(header::USER_AGENT, concat!("audiovault-agent/", env!("CARGO_PKG_VERSION")));
    let mut request = request.body(Empty::new()).map_err(no_proxy)?;
    if let Some(Credentials { user, password }) = credentials {
        let pair = Zeroizing::new(format!("{}:{}", user.reveal(), password.reveal()));
        let basic = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let mut basic = HeaderValue::from_str(&basic).map_err(no_proxy)?;
        basic.set_sensitive(true);
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, basic);
    }
    Ok(request)
}

fn refused<B>(response: &Response<B>, target: &Target, named: bool) -> ProxyError {
    let words = words(response);
    let target = target.to_string();
    match response.status() {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => match other_schemes(response.headers()) {
            Some(schemes) => ProxyError::Unspoken(schemes),
            None if named => ProxyError::CredentialsRefused(words),
            None => ProxyError::CredentialsWanted(words),
        },
        // Not what the standard says, but tinyproxy answers this to a wrong password.
        StatusCode::UNAUTHORIZED if named => ProxyError::CredentialsRefused(words),
        status if status.is_server_error() => ProxyError::Unreachable(target, words),
        _ => ProxyError::Forbidden(target, words),
    }
}

/// Status and reason as the proxy sent them.
fn words<B>(response: &Response<B>) -> String {
    let status = response.status();
    let reason = match response.extensions().get::<ReasonPhrase>() {
        Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        None => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let words: String = one_line(&reason).chars().take(MAX_WORDS).collect();
    format!("{} {words}", status.as_str()).trim_end().to_owned()
}

/// The authentication schemes that the proxy offers, if Basic is not one of them (RFC 9110, section 11.7.1).
fn other_schemes(headers: &HeaderMap) -> Option<String> {
    let challenges = headers.get_all(header::PROXY_AUTHENTICATE).iter();
    let schemes: Vec<String> = challenges
        .filter_map(|challenge| challenge.to_str().ok()?.split_whitespace().next())
        .map(|scheme| one_line(scheme).trim_end_matches(',').chars().take(MAX_WORDS).collect())
        .collect();
    let basic = schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    (!basic).then(|| schemes.join(" or "))
}

fn no_proxy(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProxyError {
    ProxyError::NotAProxy(error.into())
}
