//! `audiovault-agent serve`: the classic AudioVault, with the agent's own router on a local port.

use std::{borrow::Cow, io, net::SocketAddr, sync::Arc, time::Duration};

use audiovault_common::{
    about::{Purpose, ShownVersion},
    advice::Advice,
    listener::{Gate, Listening, Routes, from_files, start_plain, start_tls},
    request_id::{X_REQUEST_ID, new_id},
    tls::{CertificateError, CertificateFiles},
};
use audiovault_protocol::{
    http::context::{Client, Lifeline, RequestContext},
    limits::AGENT_DEADLINE,
    message::Status,
};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::{net::TcpListener, sync::watch};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use crate::{
    http::{Current, ServiceSettings, about::ABOUT, monitor},
    net::resolve,
};

/// How long running downloads may take to finish after a shutdown was requested.
pub const DRAIN: Duration = Duration::from_secs(60);
/// How long browsers may cache what an origin is allowed to do.
const PREFLIGHT_AGE: Duration = Duration::from_secs(3600);
/// Longest request id accepted from outside: enough for a UUID or a trace id with a prefix.
const MAX_REQUEST_ID_LEN: usize = 64;
/// Response headers that players may read.
const EXPOSED: [HeaderName; 7] = [
    header::CONTENT_RANGE,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::LAST_MODIFIED,
    header::CONTENT_LENGTH,
    header::CONTENT_DISPOSITION,
    HeaderName::from_static("x-request-id"),
];

/// Origins of web pages that may use the service from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All origins.
    Any,
    /// These origins, such as `https://queuemetrics.example.com`.
    Only(Vec<HeaderValue>),
}

impl Origins {
    /// Reads `*` or a comma-separated list. `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Any);
        }
        let origin = |text: &str| {
            let origin = Url::parse(text.trim()).ok()?.origin();
            origin.is_tuple().then(|| HeaderValue::try_from(origin.ascii_serialization()).ok()).flatten()
        };
        text.split(',').map(origin).collect::<Option<_>>().map(Self::Only)
    }
}

/// The settings of `serve`.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// Search and download.
    pub service: ServiceSettings,
    /// `HOST:PORT`; port 0 means any free port.
    pub bind_to: String,
    /// The address at which browsers reach the service, without a slash at the end. If absent, the address listened on.
    pub public_url: Option<String>,
    /// The certificate for HTTPS, if any.
    pub tls: Option<CertificateFiles>,
    /// Origins of the pages that may play recordings.
    pub origins: Origins,
    /// How much of the version the landing page shows to unauthenticated clients.
    pub shown_version: ShownVersion,
    /// The largest number of connections at a time.
    pub max_connections: u32,
    /// The largest number of connections of one client at a time: an IPv4 address, or an IPv6 network of 64 bits.
    pub max_client_connections: u32,
}

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address as configured.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Advice for ServeError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Bind { .. } => Some("check that it is an address of this machine and not in use".into()),
            Self::Certificate(_) => None,
        }
    }
}

/// A running service.
#[derive(Debug)]
pub struct Running {
    base_url: Arc<str>,
    service: Current,
    lifeline: Lifeline,
    listening: Listening,
    /// The storage is watched only while this receiver exists.
    _recordings: watch::Receiver<Status>,
}

impl Running {
    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.listening.addr
    }

    /// The base address of links, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Replaces the settings of the service. The address and the options of the listener stay.
    pub fn renew(&self, settings: ServeSettings) {
        self.service.renew(settings.service);
    }

    /// Stops listening, lets running downloads finish for at most `drain`, and cuts the rest. Completes when all of
    /// that is written to the audit log.
    pub async fn shutdown(mut self, drain: Duration) {
        self.listening.handle.graceful_shutdown(None);
        let ended = match tokio::time::timeout(drain, &mut self.listening.task).await {
            Ok(ended) => ended,
            Err(_) => {
                self.lifeline.cut();
                self.listening.handle.shutdown();
                self.listening.task.await
            }
        };
        if let Ok(Err(error)) = ended {
            tracing::error!(%error, code = "listener.failed", "the listener failed");
        }
        self.service.finish().await;
    }
}

/// Starts to listen, on this runtime.
///
/// # Errors
/// [`ServeError`].
pub async fn start(settings: ServeSettings) -> Result<Running, ServeError> {
    let unbound = |source| ServeError::Bind { address: settings.bind_to.clone(), source };
    let (listener, address) = bind(&settings.bind_to).await.map_err(unbound)?;
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let base_url: Arc<str> =
        settings.public_url.clone().map_or_else(|| format!("{scheme}://{address}").into(), Arc::from);
    let service = Current::new(settings.service.clone());
    let recordings = monitor::start(&service);
    let lifeline = Lifeline::default();
    let shown = settings.shown_version;
    let landing = async move |asked: HeaderMap| ABOUT.landing(Purpose::Agent, shown, &asked).map(Body::from);
    let answering =
        Answering { service: service.clone(), base: Arc::clone(&base_url), lifeline: lifeline.clone() };
    let router = Router::new()
        .route("/", get(landing))
        .fallback(async move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
            answering.answer(peer, request).await
        })
        .layer(cors(&settings.origins));
    let gate = Gate::new(settings.max_connections, settings.max_client_connections, Vec::new());
    let gate = Arc::new(gate);
    let listening = match settings.tls {
        None => start_plain(listener, &gate, Routes(router)),
        Some(files) => {
            install_provider();
            start_tls(listener, from_files(files)?, &gate, Routes(router))
        }
    };
    let listening = listening.map_err(unbound)?;
    tracing::info!(%address, scheme, links = &*base_url, code = "listener.started", "listening");
    Ok(Running { base_url, service, lifeline, listening, _recordings: recordings })
}

async fn bind(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates(address).await? {
        match TcpListener::bind(candidate).await {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok((listener, address));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Resolves `HOST:PORT` to addresses.
async fn candidates(text: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let found = resolve(host).await.map_err(io::Error::other)?;
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// Answers the requests of a local port.
#[derive(Clone)]
struct Answering {
    service: Current,
    base: Arc<str>,
    lifeline: Lifeline,
}

impl Answering {
    /// Answers one request. The client is the other end of the connection, which is the proxy if there is one in front.
    async fn answer(&self, peer: SocketAddr, request: Request) -> Response<Body> {
        let headers = request.headers();
        let context = RequestContext {
            id: sane_id(headers).unwrap_or_else(new_id),
            client: Client::new(peer.ip().to_canonical(), headers),
            base: Arc::clone(&self.base),
            deadline: AGENT_DEADLINE,
            lifeline: self.lifeline.clone(),
        };
        self.service.answer(context, request).await.response.map(Body::new)
    }
}

/// The request id that the client names, if it is harmless in a log.
fn sane_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.bytes().all(sane);
    fits.then(|| id.to_owned())
}

fn cors(origins: &Origins) -> CorsLayer {
    let origins = match origins {
        Origins::Any => AllowOrigin::any(),
        Origins::Only(list) => AllowOrigin::list(list.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers([header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::CONTENT_TYPE])
        .expose_headers(EXPOSED)
        .max_age(PREFLIGHT_AGE)
}

/// Chooses the process-wide cryptography provider, unless the embedding program has already chosen one.
pub fn install_provider() {
    // It fails only if a provider is already installed, and that is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests;
