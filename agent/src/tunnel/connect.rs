//! One attempt to reach the relay: TCP, TLS where the address says so, and the WebSocket upgrade.

use std::{io, sync::Arc, time::Duration};

use audiovault_protocol::{
    frame::one_line,
    limits::MAX_DATA_LEN,
    link::{Counted, Traffic, websocket_config},
    message::SUBPROTOCOL,
    problem::Problem,
};
use http::{HeaderValue, StatusCode, header};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error as WsError, client::IntoClientRequest, handshake::client::Request},
};
use url::Url;

use super::{TunnelConfig, TunnelError};

/// How long each of TCP, TLS and upgrade may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Octets that may wait unsent in the kernel: one DATA frame. What is more waits in the lanes, where a search can
/// overtake it.
const NOTSENT_LOWAT: u32 = MAX_DATA_LEN as u32;

/// A connection that was upgraded.
pub(super) type Socket = WebSocketStream<Box<dyn Connection>>;

/// TCP, or TLS over it.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name does not resolve or nothing listens there.
    #[error("cannot reach {0}; check the address, the name service and the firewall")]
    Tcp(String, #[source] io::Error),
    /// The certificate is not trusted, or the other side speaks no TLS.
    #[error("the TLS handshake with {0} failed; check the relay's certificate, or --cacert")]
    Tls(String, #[source] io::Error),
    /// A step took longer than [`STEP_TIMEOUT`].
    #[error("{0} does not answer")]
    Timeout(String),
    /// The relay said no before upgrading.
    #[error("the relay refused the tunnel with {status}: {detail}")]
    Refused {
        /// Its HTTP status.
        status: StatusCode,
        /// Its sentence.
        detail: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Something answered that is not a relay.
    #[error("the answer from {0} is not a relay's; check the address")]
    NotARelay(String, #[source] Box<WsError>),
}

/// Whether and when another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// With backoff.
    Backoff,
    /// When the relay said so.
    After(Duration),
    /// Only after somebody has changed something: asked rarely and said loudly.
    AfterChange,
}

impl ConnectError {
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
            Self::Refused { retry_after: Some(after), .. } => Retry::After(*after),
            Self::Refused { .. } | Self::Tcp(..) | Self::Tls(..) | Self::Timeout(_) | Self::NotARelay(..) => {
                Retry::Backoff
            }
        }
    }
}

/// What every attempt needs, made once.
pub(super) struct Dialler {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    request: Request,
}

impl Dialler {
    /// # Errors
    /// [`TunnelError`] when the configuration cannot be used.
    pub(super) fn new(config: &TunnelConfig) -> Result<Self, TunnelError> {
        let secure = matches!(config.relay.scheme(), "wss" | "https");
        let host = config.relay.host_str().ok_or(TunnelError::NoHost)?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = config.relay.port_or_known_default().ok_or(TunnelError::NoHost)?;
        let tls = if secure {
            let connector =
                TlsConnector::from(Arc::new(super::tls::client_config(config.cacert.as_deref())?));
            let name = ServerName::try_from(bare.clone()).map_err(|_| TunnelError::NoHost)?;
            Some((connector, name))
        } else {
            None
        };
        Ok(Self { host: bare, port, tls, request: upgrade_request(config, secure)? })
    }

    /// Where this dials, for the log.
    pub(super) fn target(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Dials once. The name is resolved anew each time.
    pub(super) async fn dial(&self) -> Result<(Socket, Arc<Traffic>), ConnectError> {
        let target = self.target();
        let late = |_| ConnectError::Timeout(target.clone());
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = timeout(STEP_TIMEOUT, connect).await.map_err(late)?;
        let tcp = tcp.map_err(|error| ConnectError::Tcp(target.clone(), error))?;
        tune(&tcp);
        let traffic = Arc::new(Traffic::default());
        let counted = Counted::new(tcp, Arc::clone(&traffic));
        let connection: Box<dyn Connection> = match &self.tls {
            Some((connector, name)) => {
                let handshake = connector.connect(name.clone(), counted);
                let tls = timeout(STEP_TIMEOUT, handshake).await.map_err(late)?;
                Box::new(tls.map_err(|error| ConnectError::Tls(target.clone(), error))?)
            }
            None => Box::new(counted),
        };
        let upgrade = client_async_with_config(self.request.clone(), connection, Some(websocket_config()));
        let upgraded = timeout(STEP_TIMEOUT, upgrade).await.map_err(late)?;
        let (socket, _) = upgraded.map_err(|error| refused(&target, error))?;
        Ok((socket, traffic))
    }
}

fn upgrade_request(config: &TunnelConfig, secure: bool) -> Result<Request, TunnelError> {
    let mut url: Url = config.relay.clone();
    let scheme = if secure { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| TunnelError::NoHost)?;
    let base = url.path().trim_end_matches('/').trim_end_matches("/tunnel").to_owned();
    url.set_path(&format!("{base}/tunnel"));
    let mut request = url.as_str().into_client_request().map_err(|_| TunnelError::NoHost)?;
    let bearer = format!("Bearer {}", config.site_key.reveal());
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| TunnelError::NoHost)?;
    bearer.set_sensitive(true);
    let headers = request.headers_mut();
    headers.insert(header::AUTHORIZATION, bearer);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("audiovault-agent/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}

/// Makes the socket answer quickly. A kernel that does not know an option works all the same.
fn tune(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

fn refused(target: &str, error: WsError) -> ConnectError {
    if let WsError::Io(error) = error {
        return ConnectError::Tcp(target.to_owned(), error);
    }
    let WsError::Http(response) = error else {
        return ConnectError::NotARelay(target.to_owned(), Box::new(error));
    };
    let problem = response.body().as_ref().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
    let retry_after =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let status = response.status();
    let silent = || status.canonical_reason().unwrap_or("no reason was given").to_owned();
    ConnectError::Refused {
        status,
        detail: problem.map_or_else(silent, |problem| one_line(&problem.detail)),
        retry_after: retry_after.map(Duration::from_secs),
    }
}
