//! SOCKS5 (RFC 1928) with user and password (RFC 1929), with the library tokio-socks.
//!
//! hyper-util's `SocksV5` offers a proxy either user and password or no authentication, never the choice, and would
//! call getaddrinfo for names that are resolved here.

use std::net::SocketAddr;

use tokio_socks::{Error as SocksError, IntoTargetAddr, TargetAddr, tcp::Socks5Stream};

use super::{Credentials, ProxyError};
use crate::net::{Stream, Target};

pub(super) async fn pass(
    stream: Stream,
    target: &Target,
    address: Option<SocketAddr>,
    credentials: Option<&Credentials>,
) -> Result<Stream, ProxyError> {
    let beyond = match address {
        Some(address) => Ok(TargetAddr::Ip(address)),
        None => (target.host(), target.port()).into_target_addr(),
    };
    let beyond = beyond.map_err(|error| ProxyError::NotAProxy(error.into()))?;
    let passed = match credentials {
        Some(Credentials { user, password }) => {
            let user = user.reveal();
            let password = password.reveal();
            Socks5Stream::connect_with_password_and_socket(stream, beyond, user, password).await
        }
        None => Socks5Stream::connect_with_socket(stream, beyond).await,
    };
    passed.map(Socks5Stream::into_inner).map_err(|error| refused(error, target, credentials.is_some()))
}

fn refused(error: SocksError, target: &Target, named: bool) -> ProxyError {
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
        ProxyError::NotAProxy(error.into())
    }
}
