//! Compresses what operators read: pages, JSON, CSV, metrics, style sheets and scripts.
//!
//! The length of a compressed response shows whether text that an attacker chose is similar to a secret in the same
//! response (BREACH). Three rules prevent this:
//!
//! - Only marked responses are compressed, and no response that shows a secret is marked. Secrets are in responses to
//!   POST (new keys, tokens, codes and passwords) and in the page of a set-up link, whose address is the secret.
//!   Marked are responses to GET behind the login check, metrics, and the files that pages load.
//! - The token of the forms, which is in every page, has another mask in every response
//!   ([`csrf_token`](crate::admin::auth::csrf_token)), so no two responses contain the same characters of it.
//! - A page of another web site cannot make a browser send requests with its session: the cookie is `SameSite=Strict`.
//!
//! Recordings are sent by the public listener, which compresses nothing.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{Extensions, HeaderMap, StatusCode, Version, header};
use tower_http::compression::{
    CompressionLayer,
    predicate::{And, Predicate, SizeAbove},
};

/// Bytes from which a response is compressed: below, the gzip header and the time are not worth it.
const SHORTEST: u64 = 1024;

/// Content types that are text. Server-sent events are not in this list: they have to be sent at once.
const KINDS: [&str; 9] = [
    "text/html",
    "text/css",
    "text/csv",
    "text/javascript",
    "text/plain",
    "application/json",
    "application/problem+json",
    "application/openmetrics-text",
    "image/svg+xml",
];

/// Extension of a response: it holds no secret and may be compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compressible;

/// The condition for compressing a response.
type Decision = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// Compresses marked responses for clients that accept gzip: all browsers, Prometheus and most programs do.
pub(super) fn layer() -> CompressionLayer<And<SizeAbove, Decision>> {
    let judge: Decision =
        |_, _, headers, extensions| extensions.get::<Compressible>().is_some() && is_text(headers);
    CompressionLayer::new().compress_when(SizeAbove::new(SHORTEST).and(judge))
}

/// Marks the responses to requests that change nothing. They show no secret.
pub(super) async fn mark(request: Request, next: Next) -> Response {
    let is_safe = request.method().is_safe();
    let mut response = next.run(request).await;
    if is_safe {
        response.extensions_mut().insert(Compressible);
    }
    response
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    KINDS.contains(&kind.split(';').next().unwrap_or_default().trim_end())
}
