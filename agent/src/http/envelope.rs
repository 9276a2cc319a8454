//! What surrounds every request: an id, a deadline, a line in the log, and headers that keep recordings private.

use std::time::{Duration, Instant};

use audiovault_common::{
    http_error::HttpError,
    request_id::{X_REQUEST_ID, new_id},
};
use audiovault_protocol::{
    http::{
        context::{Audit, Client, Deadline, RequestId},
        headers::make_private,
    },
    limits::AGENT_DEADLINE,
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use tracing::Instrument;

use crate::audit::{Recorder, call_in_log, event::Kind};

/// Longest request id accepted from outside: enough for a UUID or a trace id with a prefix.
const MAX_REQUEST_ID_LEN: usize = 64;

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
    let failure = HttpError::take(&mut response);
    if let Some(failure) = &failure {
        response = failure.document(response, &id);
    }
    if kind == "recording" {
        make_private(response.headers_mut());
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let line =
        Line { id: &id, kind, method: method.as_str(), client: client.as_deref(), elapsed: began.elapsed() };
    log(&line, failure.as_ref(), &response);
    match entry {
        Some(entry) => entry.answered(response, failure.as_ref().map(HttpError::detail)),
        None => response,
    }
}

fn too_slow(asked: Duration) -> HttpError {
    let cause = format!("no answer within {} ms", asked.min(AGENT_DEADLINE).as_millis());
    HttpError::new(StatusCode::GATEWAY_TIMEOUT, "the site's storage is too slow to answer; try again later")
        .because(cause)
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
            let problem = failure.detail();
            let cause = failure.log_cause();
            if failure.status().is_server_error() {
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
    sane_id(request.headers()).unwrap_or_else(new_id)
}

fn sane_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.bytes().all(sane);
    fits.then(|| id.to_owned())
}
