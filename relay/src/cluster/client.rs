//! Asks another relay, over connections that are kept.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use audiovault_protocol::{headers, message::ResponseHead, problem::Problem};
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{
    key::{ClusterKey, Stamp},
    routes::Node,
    seal::{ProvenBody, Seal},
    wire::{HEAD, NOBODY, PROOF, unix_time},
};
use crate::{
    net::listen::{CertificateError, CertificateFiles, RELOAD_EVERY, Watched, kept, strangers},
    tunnel::registry::NoSession,
};

/// How long a connection to a relay that is well takes: they stand beside each other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Half of how long the other side keeps a connection that carries nothing.
const IDLE: Duration = Duration::from_secs(5);
/// Connections that are kept for the next requests to one relay.
const MAX_IDLE: usize = 256;
/// Octets that the kernel may hold of one answer, so that a listener who pauses stops the agent soon, and does not fill the
/// memory of two relays: two windows of a stream.
const RECEIVE_BUFFER: usize = 512 * 1024;
/// The longest problem that another relay has words for.
const MAX_PROBLEM_LEN: usize = 16 * 1024;

/// Why another relay has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// No connection could be made: nothing was asked.
    #[error("no connection can be made: check that it runs, its --node-url and its certificate")]
    Connect(#[source] ClientError),
    /// The connection broke before the head of an answer.
    #[error("the connection broke before an answer came")]
    Broken(#[source] ClientError),
    /// It is lost meanwhile.
    #[error("it has not renewed its lease")]
    Lost,
    /// No answer came in time.
    #[error("no answer came in time")]
    Deadline,
    /// Another run answers there, so that the one that was asked has ended.
    #[error("it was started anew")]
    Replaced,
    /// It is reached without TLS by a relay that has TLS.
    #[error("it has no TLS between relays, and this relay has: write https:// in --node-url of every relay")]
    Plain,
    /// It does not prove that it is a relay of this cluster.
    #[error(
        "its answer is not signed with this cluster's key: give every relay the same AUDIOVAULT_RELAY_CLUSTER_KEY and the same \
         release"
    )]
    Impostor,
    /// It does not believe that this is a relay of its cluster.
    #[error(
        "it does not accept this relay's signature: give every relay the same AUDIOVAULT_RELAY_CLUSTER_KEY, and set \
         their clocks"
    )]
    Unproven,
    /// It speaks, but not as relays do.
    #[error("it answers with status {0}, as no relay of this release does: check its --node-url")]
    Stranger(StatusCode),
}

/// What another relay says.
#[derive(Debug)]
pub enum NodeAnswer {
    /// An agent's answer.
    Answer(Response<ProvenBody>),
    /// It refuses, and so would any other.
    Refused(Problem),
    /// It has no such agent.
    Nobody(NoSession),
    /// Its tunnel was lost before the agent had answered.
    Lost,
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

#[derive(Debug)]
pub(super) struct NodeClient {
    http: Mutex<Http>,
    key: ClusterKey,
    own_run: String,
    /// Whether relays have TLS between them. Then nothing is asked without.
    tls: bool,
    /// Numbers of the questions.
    asked: AtomicU64,
}

impl NodeClient {
    /// With the certificate of this relay, where relays have some; it has to be followed by [`NodeClient::follow`].
    pub(super) fn new(
        key: ClusterKey,
        own_run: &str,
        files: Option<CertificateFiles>,
    ) -> Result<(Self, Option<Watched>), CertificateError> {
        let has_tls = files.is_some();
        let (watched, tls) = match files {
            Some(files) => {
                let (watched, tls) = Watched::new(files, CertificateFiles::client)?;
                (Some(watched), tls)
            }
            None => (None, strangers()?),
        };
        let http = Mutex::new(http(tls));
        let client = Self { http, key, own_run: own_run.to_owned(), tls: has_tls, asked: AtomicU64::new(0) };
        Ok((client, watched))
    }

    /// Follows the files of the certificate, for as long as this relay runs.
    pub(super) async fn follow(&self, watched: Watched) {
        let reload = watched.follow(RELOAD_EVERY, |files, read| {
            // The listener with the same files says what is wrong with reading them.
            let Ok(content) = read else { return };
            match files.client(content) {
                Ok(tls) => {
                    *self.http.lock().unwrap_or_else(PoisonError::into_inner) = http(tls);
                    tracing::info!("other relays are reached with the new certificate");
                }
                Err(error) => kept(&error),
            }
        });
        reload.await;
    }

    /// Asks; dropping the future, or the body later, has the other relay stop.
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
            // The proof of the body is one (RFC 9110, section 10.1.4).
            .header(header::TE, "trailers")
            .body(Full::new(question))
            .map_err(|_| Unreachable::Stranger(StatusCode::BAD_REQUEST))?;
        let http = self.http.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answered = timeout(patience, http.request(request)).await;
        let answer = answered.map_err(|_| Unreachable::Deadline)?.map_err(|error| {
            if error.is_connect() { Unreachable::Connect(error) } else { Unreachable::Broken(error) }
        })?;
        match answer.status() {
            // Who does not know this relay proves nothing to it. What it says is nothing for the public.
            StatusCode::UNAUTHORIZED => Err(Unreachable::Unproven),
            StatusCode::MISDIRECTED_REQUEST => Err(Unreachable::Replaced),
            _ => {
                let seal = Seal { key: self.key.clone(), stamp, with_body: !is_https };
                seal.open(answer).ok_or(Unreachable::Impostor)
            }
        }
    }

    /// Has an agent of another relay answer.
    pub(super) async fn call(
        &self,
        node: &Node,
        call: Bytes,
        patience: Duration,
    ) -> Result<NodeAnswer, Unreachable> {
        let response = self.ask(node, "/call", call, patience).await?;
        let nobody = response.headers().get(NOBODY).map(HeaderValue::as_bytes);
        match (response.status(), nobody) {
            (StatusCode::OK, _) => answer(response).map(NodeAnswer::Answer),
            (_, Some(b"offline")) => Ok(NodeAnswer::Nobody(NoSession::Offline)),
            (_, Some(b"other-key")) => Ok(NodeAnswer::Nobody(NoSession::OtherKey)),
            (_, Some(_)) => Ok(NodeAnswer::Lost),
            (status @ (StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND), None) => {
                Err(Unreachable::Stranger(status))
            }
            (status, None) => {
                refusal(response).await.ok_or(Unreachable::Stranger(status)).map(NodeAnswer::Refused)
            }
        }
    }
}

/// Connections to other relays. Whether they need TLS is looked at before.
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

/// The agent's answer in that of the relay.
fn answer(response: Response<ProvenBody>) -> Result<Response<ProvenBody>, Unreachable> {
    let stranger = || Unreachable::Stranger(response.status());
    let head = response.headers().get(HEAD).and_then(|head| BASE64.decode(head.as_bytes()).ok());
    let head: ResponseHead = head.and_then(|json| serde_json::from_slice(&json).ok()).ok_or_else(stranger)?;
    let status = StatusCode::from_u16(head.status).map_err(|_| stranger())?;
    let size = headers::content_length(&head.headers);
    let mut answer = Response::new(response.into_body().with_size(size));
    *answer.status_mut() = status;
    *answer.headers_mut() = head.headers;
    if let Some(audit) = head.audit {
        answer.extensions_mut().insert(audit);
    }
    Ok(answer)
}

/// What a relay says for the public.
async fn refusal(response: Response<ProvenBody>) -> Option<Problem> {
    let wait = retry_after(response.headers());
    let json = Limited::new(response.into_body(), MAX_PROBLEM_LEN).collect().await.ok()?.to_bytes();
    let problem: Problem = serde_json::from_slice(&json).ok()?;
    Some(Problem { retry_after: wait, ..problem })
}

fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}
