//! Requests from peer relays for the agents that are connected to this relay. It uses only its own tunnels, so no
//! request ever takes a second hop.
//!
//! The relay that the client is connected to follows the delivery and writes the audit log. This relay enforces the
//! limits of the site and those on guesses, because all requests for the site come here, no matter which relay
//! received them. If several relays have tunnels of the site, each also counts what its peers report.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::{
    http::parameters::Parameters,
    identity::site::SiteId,
    link::{Answered, CallError},
    message::{AgentRequest, RequestHead, ResponseHead},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;

use super::{
    PublicState,
    search::{Presented, SearchText, content_type, settle, try_token},
};
use crate::{
    cluster::{
        Cluster, HEAD, MAX_CALL_LEN, NO_AGENT, NodeCall, PROOF, PartsQuestion, Seal, SessionsQuestion,
        Unproven,
    },
    limits::{ClientKey, Trial, hold},
    routing::{
        dispatch::{AnswerBody, RetryPolicy, RouteError},
        router::AgentRouter,
    },
    tunnel::{registry::NoSession, session::Session, view::SessionView},
};

/// Counts for all clients whose address a peer relay does not say.
const UNKNOWN_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The routes for peer relays.
pub fn router(state: Arc<PublicState>) -> Router {
    let limit = DefaultBodyLimit::max(MAX_CALL_LEN);
    Router::new()
        .route("/call", post(call))
        .route("/parts", post(parts))
        .route("/sessions", post(sessions))
        .layer(limit)
        .with_state(state)
}

async fn call(State(state): State<Arc<PublicState>>, headers: HeaderMap, body: Bytes) -> Response {
    let Proved { seal, .. } = match proved(&state, "/call", &headers, &body) {
        Ok(proved) => proved,
        Err(error) => return error.into_document(""),
    };
    seal.close(match NodeCall::decode(body) {
        Ok(call) => answer(&state, call).await,
        Err(wrong) => {
            tracing::warn!(
                %wrong,
                code = "peer.request_malformed",
                "cannot decode a request of a peer relay"
            );
            HttpError::new(StatusCode::BAD_REQUEST, wrong.to_string()).into_document("")
        }
    })
}

/// The state of the sites whose agents are connected to this relay.
async fn parts(State(state): State<Arc<PublicState>>, headers: HeaderMap, body: Bytes) -> Response {
    let response = proved(&state, "/parts", &headers, &body).map(|Proved { cluster, seal }| {
        let question: PartsQuestion = serde_json::from_slice(&body).unwrap_or_default();
        seal.close(Json(cluster.gossip().report(&question)).into_response())
    });
    response.unwrap_or_else(|error| error.into_document(""))
}

/// The tunnels of a site at this relay.
async fn sessions(State(state): State<Arc<PublicState>>, headers: HeaderMap, body: Bytes) -> Response {
    let response = proved(&state, "/sessions", &headers, &body).and_then(|Proved { cluster, seal }| {
        let question: SessionsQuestion = serde_json::from_slice(&body)
            .map_err(|_| HttpError::new(StatusCode::BAD_REQUEST, "the request names no site"))?;
        let sessions = state.registry.sessions(&question.site);
        let view = |session: &Arc<Session>| SessionView::of(session, Some(cluster.own_url()));
        Ok(seal.close(Json(sessions.iter().map(view).collect::<Vec<_>>()).into_response()))
    });
    response.unwrap_or_else(|error| error.into_document(""))
}

/// A request that was proved to come from a relay of the cluster.
struct Proved<'a> {
    cluster: &'a Cluster,
    /// Seals the response to it.
    seal: Seal,
}

/// Checks the proof that a peer relay's request carries.
fn proved<'a>(
    state: &'a PublicState,
    path: &str,
    headers: &HeaderMap,
    question: &[u8],
) -> Result<Proved<'a>, HttpError> {
    let proof = headers.get(PROOF).and_then(|proof| proof.to_str().ok()).unwrap_or_default();
    let Some(cluster) = state.agents.cluster() else {
        return Err(HttpError::new(StatusCode::NOT_FOUND, "this relay is not in a cluster"));
    };
    let seal = cluster.check(path, question, proof).map_err(|unproven| {
        tracing::warn!(
            %unproven,
            code = "peer.request_refused",
            "a request that claims to be from a peer relay was refused"
        );
        let status = match unproven {
            Unproven::OtherRelay => StatusCode::MISDIRECTED_REQUEST,
            Unproven::Forged | Unproven::OtherTime | Unproven::Replayed => StatusCode::UNAUTHORIZED,
        };
        HttpError::new(status, unproven.to_string())
    })?;
    Ok(Proved { cluster, seal })
}

async fn answer(state: &PublicState, call: NodeCall) -> Response {
    let NodeCall { target, request } = call;
    let id = &request.head.request_id;
    if !id.is_empty() {
        tracing::info!(
            request_id = id,
            site = %target.site,
            code = "peer.request",
            "request from a peer relay"
        );
    }
    let client = client_of(&request.head);
    let permit = match state.limits.requests.enter_site(client, &target.site) {
        Ok(permit) => permit,
        Err(busy) => return HttpError::from(busy).into_document(id),
    };
    let policy = RetryPolicy::for_peer(Duration::from_millis(request.head.deadline_ms.into()));
    let trial = match trial(state, client, &target.site, &request, policy).await {
        Ok(trial) => trial,
        Err(error) => return error.into_document(id),
    };
    let here = AgentRouter::new(Arc::clone(&state.registry), None);
    let routed = here.send(&target, &request, policy).await;
    settle(trial, routed.as_ref().ok().map(|routed| routed.answered.response.status()));
    let response = match routed {
        Ok(routed) => from_agent(routed.answered, &request.head.method).await,
        Err(RouteError::Call(CallError::Lost)) => no_agent("lost"),
        Err(RouteError::NoAgent(NoSession::Offline)) => no_agent("offline"),
        Err(RouteError::NoAgent(NoSession::OtherKey)) => no_agent("other-key"),
        Err(why) => HttpError::from(why.problem()).into_document(id),
    };
    hold(response, permit)
}

/// The client that sent the request to the peer relay, as the key for limits.
fn client_of(head: &RequestHead) -> ClientKey {
    let address = head.client.address.as_deref().and_then(|address| address.parse().ok());
    address.unwrap_or(UNKNOWN_CLIENT).into()
}

/// Asks the throttle to admit the token of a search. A request that is not a search has no trial.
async fn trial(
    state: &PublicState,
    client: ClientKey,
    site: &SiteId,
    request: &AgentRequest,
    policy: RetryPolicy,
) -> Result<Option<Trial>, HttpError> {
    let (path, query) = match request.head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.head.target.as_str(), None),
    };
    if path != "/search" {
        return Ok(None);
    }
    let text = SearchText { query, content_type: content_type(&request.head.headers), body: &request.body };
    let parameters = Parameters::read(text.query, text.content_type, text.body).unwrap_or_default();
    let presented = Presented::new(&state.registry.sessions(site), &text, &parameters);
    Ok(Some(try_token(state, client, site, &presented, policy.permit_until()).await?))
}

/// The agent's response in the form for the peer relay, which makes the public response from it. A response without a
/// body (to HEAD, or 304) is sent without one: the length in its head is not that of this response.
async fn from_agent(answered: Answered<AnswerBody>, method: &str) -> Response {
    let (parts, body) = answered.response.into_parts();
    let bare = method == "HEAD" || parts.status == StatusCode::NOT_MODIFIED;
    let body = if bare {
        // The end comes with the head or right after it. Dropping the body before would look as if the client had
        // left.
        let _ = body.collect().await;
        Body::empty()
    } else {
        Body::new(body)
    };
    let head = ResponseHead { status: parts.status.as_u16(), headers: parts.headers, audit: answered.audit };
    // Strings and numbers always serialize.
    let head = BASE64.encode(&serde_json::to_vec(&head).unwrap_or_default());
    let mut response = Response::new(body);
    if let Ok(head) = HeaderValue::from_str(&head) {
        response.headers_mut().insert(HEAD, head);
    }
    response
}

fn no_agent(why: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(NO_AGENT, HeaderValue::from_static(why));
    response
}
