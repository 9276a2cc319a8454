//! Gives every public request its id and its line in the log. Query strings, tokens and names of recordings are in
//! neither of them.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use audiovault_common::http_error::HttpError;
use audiovault_common::request_id::{X_REQUEST_ID, new_id};
use audiovault_protocol::{
    http::context::{Client, RequestId},
    identity::site::SiteId,
};
use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, Version, header};
use tracing::{Instrument, field};

use super::PublicState;
use crate::{
    limits::hold,
    net::client::{self, Scheme},
};

/// The site that a handler found. Set on responses, for the log.
#[derive(Debug, Clone)]
pub(super) struct LoggedSite(pub(super) SiteId);

/// Names the site in the span of the request that is handled now.
pub(super) fn enter_site(site: &SiteId) {
    tracing::Span::current().record("site", site.as_str());
}

pub(super) async fn record(
    State(state): State<Arc<PublicState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let id = new_id();
    let address = client::identify(&mut request, peer.ip(), &state.trusted_proxies);
    let user_agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let client = Client { address: Some(address.to_string()), user_agent: user_agent.map(str::to_owned) };
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let version = request.version();
    // Sent over TLS only: over plain HTTP, anyone on the network path could have added it (RFC 6797, section 7.2).
    let over_tls = request.extensions().get::<Scheme>() == Some(&Scheme::Https);
    let hsts = state.hsts.as_ref().filter(|_| over_tls);
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(client);

    let span = tracing::info_span!("request", id, site = field::Empty);
    let mut response = match state.limits.requests.enter(address.into()) {
        Ok(permit) => hold(next.run(request).instrument(span).await, permit),
        Err(busy) => HttpError::from(busy).into_response(),
    };
    let error = HttpError::take(&mut response);
    if let Some(error) = &error {
        response = error.document(response, &id);
    }
    // The rest of a body that is too large is not read, and a relay that drains closes its connections. A client that
    // kept this connection would find it closed at its next request, so the response says that it is closed.
    let is_cut = response.status() == StatusCode::PAYLOAD_TOO_LARGE;
    let stays = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if (is_cut || state.is_draining()) && version <= Version::HTTP_11 && !stays {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let answered = response.extensions().get::<LoggedSite>().map(|site| &site.0);
    let site = answered.or_else(|| error.as_ref()?.site()).map_or("-", SiteId::as_str);
    let took = start.elapsed();
    state.metrics.answered(&route, response.status().as_u16(), took);
    tracing::info!(
        request_id = id,
        %method,
        route,
        site,
        status = response.status().as_u16(),
        client = %address,
        ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        code = "request.answered",
        "request"
    );
    if let Some(hsts) = hsts {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}
