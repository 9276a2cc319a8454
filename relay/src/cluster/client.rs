//! Sends requests to peer relays, over pooled connections.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use audiovault_common::listener::{RELOAD_INTERVAL, log_failed_reload};
use audiovault_common::tls::{
    Certificate, CertificateError, CertificateFiles, CertificateWatch, trusting_none,
};
use audiovault_protocol::{
    http::{headers, problem::Problem},
    link::Answered,
    message::ResponseHead,
};
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{
    key::{ClusterKey, Stamp},
    routes::Node,
    seal::{ProvenBody, Seal},
    wire::{HEAD, NO_AGENT, PROOF, unix_time},
};
use crate::tunnel::registry::NoSession;

/// How long it takes at most to connect to a healthy peer relay: the relays are close to each other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Half of the time that the other side keeps an idle connection.
const IDLE: Duration = Duration::from_secs(5);
/// Most idle connections that are kept for the next requests to one relay.
const MAX_IDLE: usize = 256;
/// Bytes that the kernel may hold of one response: two windows of a stream. A listener who pauses then soon stops the
/// agent, and does not fill the memory of two relays.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// The longest problem details that a peer relay may send, in bytes.
const MAX_PROBLEM_LEN: usize = 16 * 1024;

/// Why a peer relay has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// No connection could be made: the request was not sent.
    #[error("cannot connect: check that it runs, its --node-url and its certificate")]
    Connect(#[source] ClientError),
    /// The connection broke before the head of a response.
    #[error("the connection broke before a response came")]
    Broken(#[source] ClientError),
    /// The relay was lost while the request waited.
    #[error("it has not renewed its lease")]
    Lost,
    /// No response came in time.
    #[error("no response came in time")]
    Deadline,
    /// Another run answers at this address, so the run that was asked has ended.
    #[error("it was restarted")]
    Replaced,
    /// The peer relay would be reached without TLS, but this relay has TLS between relays.
    #[error("it has no TLS between relays, but this relay has: use https:// in --node-url of every relay")]
    Plain,
    /// The peer relay does not prove that it belongs to this cluster.
    #[error(
        "its response is not signed with this cluster's key: give every relay the same AUDIOVAULT_RELAY_CLUSTER_KEY \
         and the same release"
    )]
    WrongIdentity,
    /// The peer relay does not accept the proof that this relay belongs to its cluster.
    #[error(
        "it does not accept this relay's signature: give every relay the same AUDIOVAULT_RELAY_CLUSTER_KEY, and \
         check their clocks"
    )]
    Unproven,
    /// The peer relay answers, but not in the way that relays do.
    #[error("it responds with status {0}, which no relay of this release does: check its --node-url")]
    UnexpectedAnswer(StatusCode),
}

/// The response of a peer relay.
#[derive(Debug)]
pub enum NodeAnswer {
    /// The response of an agent.
    Answer(Box<Answered<ProvenBody>>),
    /// It refuses the request, as any other relay would.
    Refused(Problem),
    /// It has no such agent.
    NoAgent(NoSession),
    /// Its tunnel was lost before the agent had answered.
    Lost,
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[derive(Debug)]
pub(super) struct NodeClient {
    http: Mutex<Http>,
    key: ClusterKey,
    own_run: String,
    /// Whether the relays have TLS between them. If they do, no request is sent without TLS.
    tls: bool,
    /// The number of the last request.
    asked: AtomicU64,
}

impl NodeClient {
    /// Uses the certificate of this relay, if the relays have TLS between them. The caller must then run
    /// [`NodeClient::follow`] with the returned watch.
    pub(super) fn new(
        key: ClusterKey,
        own_run: &str,
        files: Option<CertificateFiles>,
    ) -> Result<(Self, Option<CertificateWatch>), CertificateError> {
        let has_tls = files.is_some();
        let (watch, tls) = match files {
            Some(files) => {
                let (watch, tls) = CertificateWatch::new(files, RELOAD_INTERVAL, Certificate::client)?;
                (Some(watch), tls)
            }
            None => (None, trusting_none()?),
        };
        let http = Mutex::new(http(tls));
        let client = Self { http, key, own_run: own_run.to_owned(), tls: has_tls, asked: AtomicU64::new(0) };
        Ok((client, watch))
    }

    /// Watches the files of the certificate, for as long as this relay runs.
    pub(super) async fn follow(&self, mut watch: CertificateWatch) {
        loop {
            // The listener with the same files reports errors in reading them.
            let Ok(certificate) = watch.changed().await else { continue };
            match certificate.client() {
                Ok(tls) => {
                    *self.http.lock() = http(tls);
                    tracing::info!(
                        code = "peer.certificate_changed",
                        "connections to peer relays use the new certificate"
                    );
                }
                Err(error) => log_failed_reload(&error),
            }
        }
    }

    /// Sends a request. If the future, or later the body, is dropped, the peer relay stops its work.
    pub(super) async fn ask(
        &self,
        node: &Node,
        path: &'static str,
        question: Bytes,
        patience: Duration,
    ) -> Result<Response<ProvenBody>, Unreachable> {
        let is_https = node.url.starts_with("https://");
        if self.tls && !is_https {
            return Err(Unreachable::Plain);
        }
        let stamp = Stamp {
            time: unix_time(),
            from: self.own_run.clone(),
            number: self.asked.fetch_add(1, Ordering::Relaxed) + 1,
            to: node.run.to_string(),
        };
        let request = Request::post(format!("{}{path}", node.url.trim_end_matches('/')))
            .header(PROOF, self.key.prove(&stamp, path, &question))
            // The proof of the body is a trailer (RFC 9110, section 10.1.4).
            .header(header::TE, "trailers")
            .body(Full::new(question))
            .map_err(|_| Unreachable::UnexpectedAnswer(StatusCode::BAD_REQUEST))?;
        let http = self.http.lock().clone();
        let answered = timeout(patience, http.request(request)).await;
        let answer = answered.map_err(|_| Unreachable::Deadline)?.map_err(|error| {
            if error.is_connect() { Unreachable::Connect(error) } else { Unreachable::Broken(error) }
        })?;
        match answer.status() {
            // A relay that does not accept this relay's proof proves nothing in return. What it says must not reach
            // public clients.
            StatusCode::UNAUTHORIZED => Err(Unreachable::Unproven),
            StatusCode::MISDIRECTED_REQUEST => Err(Unreachable::Replaced),
            _ => {
                let seal = Seal { key: self.key.clone(), stamp, with_body: !is_https };
                seal.open(answer).ok_or(Unreachable::WrongIdentity)
            }
        }
    }

    /// Sends a request to an agent of a peer relay.
    pub(super) async fn call(
        &self,
        node: &Node,
        call: Bytes,
        patience: Duration,
    ) -> Result<NodeAnswer, Unreachable> {
        let response = self.ask(node, "/call", call, patience).await?;
        let no_agent = response.headers().get(NO_AGENT).map(HeaderValue::as_bytes);
        match (response.status(), no_agent) {
            (StatusCode::OK, _) => answer(response).map(Box::new).map(NodeAnswer::Answer),
            (_, Some(b"offline")) => Ok(NodeAnswer::NoAgent(NoSession::Offline)),
            (_, Some(b"other-key")) => Ok(NodeAnswer::NoAgent(NoSession::OtherKey)),
            (_, Some(_)) => Ok(NodeAnswer::Lost),
            (status @ (StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND), None) => {
                Err(Unreachable::UnexpectedAnswer(status))
            }
            (status, None) => {
                refusal(response).await.ok_or(Unreachable::UnexpectedAnswer(status)).map(NodeAnswer::Refused)
            }
        }
    }
}

/// The HTTP client for peer relays. Whether they need TLS is checked before it is used.
fn http(tls: ClientConfig) -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_recv_buffer_size(Some(RECEIVE_BUFFER));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let mut http = Client::builder(TokioExecutor::new());
    http.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
    http.build(connector)
}

/// The agent's response inside that of the peer relay.
fn answer(response: Response<ProvenBody>) -> Result<Answered<ProvenBody>, Unreachable> {
    let unexpected = || Unreachable::UnexpectedAnswer(response.status());
    let head = response.headers().get(HEAD).and_then(|head| BASE64.decode(head.as_bytes()).ok());
    let head: ResponseHead =
        head.and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(unexpected)?;
    let status = StatusCode::from_u16(head.status).map_err(|_| unexpected())?;
    let size = headers::content_length(&head.headers);
    let mut answer = Response::new(response.into_body().with_size(size));
    *answer.status_mut() = status;
    *answer.headers_mut() = head.headers;
    Ok(Answered { response: answer, audit: head.audit })
}

/// The problem that the peer relay reports to the public client.
async fn refusal(response: Response<ProvenBody>) -> Option<Problem> {
    let wait = retry_after(response.headers());
    let json = Limited::new(response.into_body(), MAX_PROBLEM_LEN).collect().await.ok()?.to_bytes();
    let problem: Problem = serde_json::from_slice(&json).ok()?;
    Some(Problem { retry_after: wait, ..problem })
}

fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}
