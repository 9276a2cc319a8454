//! One attempt to connect to the relay: the network connection and the WebSocket upgrade.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use audiovault_common::advice::Advice;
use audiovault_protocol::{
    frame::one_line,
    http::problem::Problem,
    identity::site::SiteKey,
    link::{Buffered, Role, Traffic},
    message::SUBPROTOCOL,
};
use http::{HeaderValue, StatusCode, header};
use tokio::time::timeout;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error as WsError, client::IntoClientRequest, handshake::client::Request},
};
use url::Url;

use super::{TunnelConfig, TunnelError, handshake_stream::HandshakeStream};
use crate::net::{Outbound, ReachError, Stream, Target};

/// Timeout of the upgrade.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection after the upgrade.
pub(crate) type Socket = audiovault_protocol::link::Socket<Buffered<Stream>>;

/// A socket, and the counter of the bytes below it.
pub(super) type Connection = (Socket, Arc<Traffic>);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Unusable(#[from] TunnelError),
    /// The relay cannot be reached.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// The connection broke during the upgrade.
    #[error("{0} closed the connection without a response")]
    Broken(String, #[source] io::Error),
    /// The upgrade took longer than [`UPGRADE_TIMEOUT`].
    #[error("{0} accepts connections but does not respond")]
    Timeout(String),
    /// The relay refused before the upgrade.
    #[error("the relay refused the tunnel with {status}: {detail}")]
    Refused {
        /// Its HTTP status.
        status: StatusCode,
        /// The detail of the problem that it sent.
        detail: String,
        /// When it allows another attempt.
        retry_after: Option<Duration>,
    },
    /// The answer does not come from a relay.
    #[error("the response from {0} is not from a relay")]
    NotARelay(String, #[source] Box<WsError>),
}

impl Advice for ConnectError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unusable(error) => error.advice(),
            Self::Reach(error) => error.advice(),
            Self::Broken(..) => Some("check the address, and the network between this machine and it".into()),
            Self::NotARelay(..) => Some("check the address".into()),
            Self::Timeout(_) | Self::Refused { .. } => None,
        }
    }
}

/// Whether and when another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// With backoff.
    Backoff,
    /// After the time that the relay gave.
    After(Duration),
    /// Only after a person has changed something: retried rarely, and logged as an error.
    AfterChange,
}

impl ConnectError {
    /// Whether the other side answered and refused. A timeout or an unreachable address is not an answer.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Reach(error) => error.is_refusal(),
            Self::Timeout(_) => false,
            Self::Unusable(_) | Self::Broken(..) | Self::Refused { .. } | Self::NotARelay(..) => true,
        }
    }

    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Refused { status, .. }
                if matches!(
                    *status,
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::UPGRADE_REQUIRED
                ) =>
            {
                Retry::AfterChange
            }
            Self::Unusable(_) => Retry::AfterChange,
            Self::Reach(error) if error.needs_change() => Retry::AfterChange,
            Self::Refused { retry_after: Some(after), .. } => Retry::After(*after),
            Self::Reach(_)
            | Self::Refused { .. }
            | Self::Broken(..)
            | Self::Timeout(_)
            | Self::NotARelay(..) => Retry::Backoff,
        }
    }
}

/// Everything that an attempt needs, created once.
pub(crate) struct Dialler {
    outbound: Outbound,
    target: Target,
    request: Request,
}

impl Dialler {
    /// # Errors
    /// [`TunnelError`] if the configuration cannot be used.
    pub(crate) fn new(relay: &Url, config: &TunnelConfig) -> Result<Self, TunnelError> {
        let target = Target::of(relay).ok_or(TunnelError::NoHost)?;
        let outbound = Outbound::new(&config.network)?;
        let request = upgrade_request(relay, config, target.tls().is_some())?;
        Ok(Self { outbound, request, target })
    }

    /// The proxy through which this dials, for the log.
    pub(super) fn proxy(&self) -> Option<String> {
        self.outbound.route(&self.target).proxy().map(ToString::to_string)
    }

    /// The network settings, ready to connect.
    pub(crate) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Host and port of the relay.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Dials once.
    pub(crate) async fn dial(&self) -> Result<Connection, ConnectError> {
        let reached = self.outbound.reach(&self.target).await?;
        let late = || ConnectError::Timeout(self.target.to_string());
        let upgraded = self.upgrade(reached.stream).await.ok_or_else(late)?;
        let socket = upgraded.map_err(|error| refused(&self.target, error))?;
        Ok((socket, reached.traffic))
    }

    /// Sends the upgrade request to the relay; `None` if it does not answer within [`UPGRADE_TIMEOUT`].
    pub(crate) async fn upgrade(&self, stream: Stream) -> Option<Result<Socket, WsError>> {
        let upgrade = client_async(self.request.clone(), HandshakeStream::new(stream));
        let upgraded = timeout(UPGRADE_TIMEOUT, upgrade).await.ok()?;
        Some(upgraded.map(|(socket, _)| {
            let (stream, early) = socket.into_inner().into_parts();
            Socket::new(Buffered::new(stream), Role::Client, early)
        }))
    }
}

/// The `Authorization` header with the site key.
pub(crate) fn bearer(key: &SiteKey) -> Option<HeaderValue> {
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).ok()?;
    bearer.set_sensitive(true);
    Some(bearer)
}

fn upgrade_request(relay: &Url, config: &TunnelConfig, secure: bool) -> Result<Request, TunnelError> {
    let mut url: Url = relay.clone();
    let scheme = if secure { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| TunnelError::NoHost)?;
    let base = url.path().trim_end_matches('/').trim_end_matches("/tunnel").to_owned();
    url.set_path(&format!("{base}/tunnel"));
    let mut request = url.as_str().into_client_request().map_err(|_| TunnelError::NoHost)?;
    let bearer = bearer(&config.site_key).ok_or(TunnelError::NoHost)?;
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, bearer);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("audiovault-agent/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}

fn refused(target: &Target, error: WsError) -> ConnectError {
    if let WsError::Io(error) = error {
        return ConnectError::Broken(target.to_string(), error);
    }
    let WsError::Http(response) = error else {
        return ConnectError::NotARelay(target.to_string(), Box::new(error));
    };
    let problem = response.body().as_ref().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
    let retry_after =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let status = response.status();
    let silent = || status.canonical_reason().unwrap_or("no reason given").to_owned();
    ConnectError::Refused {
        status,
        detail: problem.map_or_else(silent, |problem| one_line(&problem.detail)),
        retry_after: retry_after.map(Duration::from_secs),
    }
}
