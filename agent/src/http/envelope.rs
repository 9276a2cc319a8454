//! What surrounds every request: an id, a deadline, a line in the log, and headers that keep recordings private.

use std::time::{Duration, Instant};

use audiovault_protocol::{
    http::{
        context::{Audit, Client, Deadline, RequestId},
        problem::Problem,
    },
    limits::AGENT_DEADLINE,
};
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tracing::Instrument;

use super::http_error::HttpError;
use crate::audit::{Recorder, call_in_log, event::Kind};

/// The header that carries the request id.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id accepted from outside: enough for a UUID or a trace id with a prefix.
const MAX_REQUEST_ID_LEN: usize = 64;

/// Headers of every response about a recording, errors included. They say that it must not be stored, that its address
/// must not be passed on, and that its type must not be guessed. It must not be indexed or executed either.
const PRIVACY: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "private, no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
    (header::CONTENT_SECURITY_POLICY, "sandbox"),
];

pub(crate) async fn wrap(State(recorder): State<Recorder>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let asked = request.extensions().get::<Deadline>().map_or(AGENT_DEADLINE, |deadline| deadline.0);
    let method = request.method().clone();
    let client = request.extensions().get::<Client>().and_then(|client| client.address.clone());
    // The path of a recording is a secret, so the log names only the kind of request.
    let (kind, recorded) = match request.uri().path() {
        "/search" | "/search/" => ("search", Some(Kind::Search)),
        path if path.starts_with("/recordings/") => ("recording", Some(Kind::Delivery)),
        _ => ("other", None),
    };
    let entry = recorded.and_then(|kind| recorder.begin(kind, &request));
    let span = tracing::info_span!("request", id);
    let mut response = tokio::time::timeout(asked.min(AGENT_DEADLINE), next.run(request).instrument(span))
        .await
        .unwrap_or_else(|_| too_slow(asked).into_response());
    let failure = response.extensions_mut().remove::<HttpError>();
    if let Some(failure) = &failure {
        response = problem(failure, &id, response);
    }
    if kind == "recording" {
        for (name, value) in PRIVACY {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let line =
        Line { id: &id, kind, method: method.as_str(), client: client.as_deref(), elapsed: began.elapsed() };
    log(&line, failure.as_ref(), &response);
    match entry {
        Some(entry) => entry.answered(response, failure.as_ref().map(|failure| &*failure.detail)),
        None => response,
    }
}

fn too_slow(asked: Duration) -> HttpError {
    let cause = format!("no answer within {} ms", asked.min(AGENT_DEADLINE).as_millis());
    HttpError::new(StatusCode::GATEWAY_TIMEOUT, "the site's storage is too slow to answer; try again later")
        .because(cause)
}

/// The problem document for a failure. It keeps the extensions of the bare response.
fn problem(failure: &HttpError, id: &str, bare: Response) -> Response {
    let mut response =
        Problem::new(failure.status, &*failure.detail).for_request(id).into_response().map(Body::from);
    if let Some((name, value)) = failure.header.as_deref() {
        response.headers_mut().insert(name, value.clone());
    }
    *response.extensions_mut() = bare.into_parts().0.extensions;
    response
}

struct Line<'a> {
    id: &'a str,
    kind: &'a str,
    method: &'a str,
    client: Option<&'a str>,
    elapsed: Duration,
}

fn log(line: &Line<'_>, failure: Option<&HttpError>, response: &Response) {
    let Line { id, kind, method, client, elapsed } = line;
    let status = response.status().as_u16();
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let audit = response.extensions().get::<Audit>();
    let call = audit.and_then(|audit| audit.call_id.as_deref()).map(call_in_log);
    let found = audit.and_then(|audit| audit.found);
    match failure {
        Some(failure) => {
            let problem = &failure.detail;
            let cause = failure.cause.as_deref();
            if failure.status.is_server_error() {
                tracing::error!(
                    request_id = id,
                    kind,
                    method,
                    client,
                    status,
                    elapsed_ms,
                    cause,
                    code = "request.answered",
                    "{problem}"
                );
            } else {
                tracing::info!(
                    request_id = id,
                    kind,
                    method,
                    client,
                    status,
                    elapsed_ms,
                    cause,
                    code = "request.answered",
                    "{problem}"
                );
            }
        }
        None => {
            tracing::info!(
                request_id = id,
                kind,
                method,
                client,
                status,
                elapsed_ms,
                call,
                found,
                code = "request.answered",
                "answered"
            )
        }
    }
}

fn request_id(request: &Request) -> String {
    if let Some(RequestId(id)) = request.extensions().get() {
        return id.clone();
    }
    sane_id(request.headers()).unwrap_or_else(|| data_encoding::HEXLOWER.encode(&rand::random::<[u8; 8]>()))
}

fn sane_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.bytes().all(sane);
    fits.then(|| id.to_owned())
}
