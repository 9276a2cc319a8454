//! Gives every request to the admin listener an id, security headers and a log line. The headers forbid pages to do
//! what our pages never do.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use audiovault_common::request_id::{X_REQUEST_ID, new_id};
use axum::{
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{AdminState, SignedIn, pages::Visitor};
use crate::net::{client::Scheme, public_url::PublicUrl};

/// The id of a request, for the errors that its handlers return.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

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

/// Headers of every response.
///
/// `Referrer-Policy` is `same-origin`, not `no-referrer`. With `no-referrer`, browsers send `Origin: null` with our
/// own forms (Fetch, section 3.2), and over plain HTTP nothing else would distinguish our forms from those of other
/// web sites.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// The security headers of this relay's pages.
#[derive(Debug, Clone)]
pub struct SecurityHeaders {
    policy: HeaderValue,
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    /// Pages load files from this listener alone. They search and play recordings at `public_url`. `hsts` is sent over
    /// TLS.
    pub fn new(public_url: &PublicUrl, hsts: Option<HeaderValue>) -> Self {
        let public = public_url.as_url().origin().ascii_serialization();
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self' {public}; media-src 'self' {public}; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        );
        // The origin of a checked URL is ASCII, so this does not fail. With the fallback only "try it" would not work.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'self'"));
        Self { policy, hsts }
    }

    fn apply(&self, scheme: Scheme, headers: &mut HeaderMap) {
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let (Scheme::Https, Some(hsts)) = (scheme, &self.hsts) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}
