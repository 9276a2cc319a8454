//! Asks a proxy to connect: HTTP CONNECT (RFC 9110, section 9.3.6) with Basic authentication (RFC 7617), and SOCKS5
//! (RFC 1928) with user and password (RFC 1929).
//!
//! hyper implements CONNECT. hyper-util's `Tunnel` would be shorter, but does not return the proxy's status and reason,
//! and an admin who asks the proxy's administrator for help needs both.
//!
//! tokio-socks implements SOCKS. hyper-util's `SocksV5` offers a proxy either user and password or no authentication,
//! never the choice, and would call getaddrinfo for names that are resolved here.

use std::net::SocketAddr;

use audiovault_protocol::frame::one_line;
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, ext::ReasonPhrase};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_socks::{Error as SocksError, IntoTargetAddr, TargetAddr, tcp::Socks5Stream};
use zeroize::Zeroizing;

use super::{Credentials, ProxyError};
use crate::net::{Stream, Target};

/// Longest reason of a proxy that is repeated, in characters.
const MAX_WORDS: usize = 120;

/// Passes an HTTP proxy.
pub(super) async fn http_connect(
    stream: Stream,
    target: &Target,
    credentials: Option<&Credentials>,
) -> Result<Stream, ProxyError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_proxy)?;
    // Ends with this function, or with the upgrade, which takes the stream out of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection.with_upgrades());
    let response = sender.send_request(connect_request(target, credentials)?).await.map_err(no_proxy)?;
    if !response.status().is_success() {
        return Err(refused_by_http(&response, target, credentials.is_some()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(no_proxy)?;
    let parts = upgraded.downcast::<TokioIo<Stream>>().map_err(|_| no_proxy("the connection changed"))?;
    if !parts.read_buf.is_empty() {
        return Err(no_proxy("data came too early"));
    }
    Ok(parts.io.into_inner())
}

/// Passes a SOCKS proxy. Without an address, the proxy gets the name of the target.
pub(super) async fn socks(
    stream: Stream,
    target: &Target,
    address: Option<SocketAddr>,
    credentials: Option<&Credentials>,
) -> Result<Stream, ProxyError> {
    let beyond = match address {
        Some(address) => Ok(TargetAddr::Ip(address)),
        None => (target.host(), target.port()).into_target_addr(),
    };
    let beyond = beyond.map_err(no_proxy)?;
    let passed = match credentials {
        Some(Credentials { user, password }) => {
            let user = user.reveal();
            let password = password.reveal();
            Socks5Stream::connect_with_password_and_socket(stream, beyond, user, password).await
        }
        None => Socks5Stream::connect_with_socket(stream, beyond).await,
    };
    passed
        .map(Socks5Stream::into_inner)
        .map_err(|error| refused_by_socks(error, target, credentials.is_some()))
}

fn connect_request(
    target: &Target,
    credentials: Option<&Credentials>,
) -> Result<Request<Empty<Bytes>>, ProxyError> {
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

fn refused_by_http<B>(response: &Response<B>, target: &Target, named: bool) -> ProxyError {
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

fn refused_by_socks(error: SocksError, target: &Target, named: bool) -> ProxyError {
    let target = target.to_string();
    let words = format!("SOCKS: {}", error.to_string().to_lowercase());
    if matches!(error, SocksError::PasswordAuthFailure(_) | SocksError::InvalidAuthValues(_)) {
        ProxyError::CredentialsRefused(words)
    } else if matches!(error, SocksError::NoAcceptableAuthMethods | SocksError::AuthorizationRequired) {
        if named {
            ProxyError::Unspoken("another authentication than user and password".to_owned())
        } else {
            ProxyError::CredentialsWanted(words)
        }
    } else if matches!(
        error,
        SocksError::ConnectionNotAllowedByRuleset
            | SocksError::CommandNotSupported
            | SocksError::AddressTypeNotSupported
    ) {
        ProxyError::Forbidden(target, words)
    } else if matches!(
        error,
        SocksError::GeneralSocksServerFailure
            | SocksError::NetworkUnreachable
            | SocksError::HostUnreachable
            | SocksError::ConnectionRefused
            | SocksError::TtlExpired
    ) {
        ProxyError::Unreachable(target, words)
    } else {
        no_proxy(error)
    }
}

fn no_proxy(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProxyError {
    ProxyError::NotAProxy(error.into())
}
