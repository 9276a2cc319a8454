//! Gives every request to the admin listener an id, security headers and a log line.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use audiovault_protocol::http::context::RequestId;
use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, Method};

use super::{AdminState, SignedIn};
use crate::{
    admin::pages::Visitor,
    model::ids::{X_REQUEST_ID, new_id},
};

pub(super) async fn record(
    State(state): State<Arc<AdminState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let id = new_id();
    let visitor = Visitor::of(&request, peer.ip());
    let client = visitor.address;
    let scheme = visitor.scheme;
    // The route is logged instead of the address, since an address can hold a set-up link.
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(visitor);

    let mut response = next.run(request).await;
    state.headers.apply(scheme, response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    let user = response.extensions().get::<SignedIn>().map_or("-", |user| user.principal.name.as_str());
    let status = response.status().as_u16();
    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    // Pages and health checks are requested all the time. A request that changes something is worth the info level.
    if method == Method::GET || method == Method::HEAD {
        tracing::debug!(request_id = id, %method, route, user, status, %client, ms, "operator's request");
    } else {
        tracing::info!(
            request_id = id,
            %method,
            route,
            user,
            status,
            %client,
            ms,
            code = "operator_request.answered",
            "operator's request"
        );
    }
    response
}
