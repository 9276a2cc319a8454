//! Compresses what operators read: pages, JSON, CSV, figures, style sheets and scripts.
//!
//! The length of a compressed answer tells whether text that somebody chose is alike to a secret in the same answer (BREACH). Three
//! things keep it from telling anything:
//!
//! - Answers are compressed that are marked for it, and none is that shows a secret: those are answers to POST (new keys, tokens, codes
//!   and passwords) and the page of a set-up link, whose address is the secret. What is marked are answers to GET behind the gate,
//!   figures, and the files that pages load.
//! - The token of the forms, which stands in every page, is masked anew in every answer
//!   ([`csrf_token`](crate::admin::auth::csrf_token)), so no two answers hold the same letters of it.
//! - A page elsewhere cannot have a browser ask with its session again and again: the cookie is `SameSite=Strict`.
//!
//! Recordings go out on the public side, where nothing is compressed.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{Extensions, HeaderMap, StatusCode, Version, header};
use tower_http::compression::{
    CompressionLayer,
    predicate::{And, Predicate, SizeAbove},
};

/// Bytes from which compressing is worth its head and its time.
const SHORTEST: u64 = 1024;

/// What is text. Server-sent events are not here: they have to leave at once.
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

/// An answer's extension: it holds no secret and may be compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compressible;

/// What decides whether an answer is compressed.
type Judge = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// Compresses answers that are marked, for clients that take gzip: all browsers, Prometheus and most programs do.
pub(super) fn layer() -> CompressionLayer<And<SizeAbove, Judge>> {
    let judge: Judge =
        |_, _, headers, extensions| extensions.get::<Compressible>().is_some() && is_text(headers);
    CompressionLayer::new().compress_when(SizeAbove::new(SHORTEST).and(judge))
}

/// Marks the answers to requests that change nothing; they show no secret.
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
