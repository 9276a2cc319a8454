//! What surrounds every request: a deadline, a line in the log, an entry in the audit log, and headers that keep
//! recordings private.

use std::time::{Duration, Instant};

use audiovault_common::{http_error::HttpError, request_id::X_REQUEST_ID};
use audiovault_protocol::{
    http::{
        context::{Audit, RequestContext},
        headers::make_private,
    },
    limits::AGENT_DEADLINE,
    link::AgentAnswer,
};
use axum::BoxError;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use tracing::Instrument;

use super::{
    Current, errors,
    outcome::{Outcome, ServiceBody},
    paths::Route,
    recordings, search,
};
use crate::audit::{Entry, Said, call_in_log, event::Kind};

impl Current {
    /// Answers one request, from a tunnel or from a local port.
    pub async fn answer<B>(&self, context: RequestContext, request: Request<B>) -> AgentAnswer<ServiceBody>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send,
    {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let method = parts.method.clone();
        // The path of a recording is a secret, so the log names only the kind of request.
        let (kind, recorded) = match Route::kind(uri.path()) {
            Some(Kind::Search) => ("search", Some(Kind::Search)),
            Some(Kind::Delivery) => ("recording", Some(Kind::Delivery)),
            _ => ("other", None),
        };
        let entry = recorded.and_then(|kind| self.recorder.begin(kind, &method, &context));
        let span = tracing::info_span!("request", id = context.id);
        let deadline = context.deadline.min(AGENT_DEADLINE);
        // Each request is served to its end by the service that it began with.
        let service = self.load();
        let answered = async {
            match Route::of(uri.path()) {
                Some(Route::Search) => search::search(&service, &context, &parts, body).await,
                Some(Route::Recording { token, name }) => {
                    recordings::recording(&service, &token, &name, parts).await
                }
                Some(Route::NotText) => recordings::not_a_link(&parts.method),
                None => Err(errors::not_found()).into(),
            }
        };
        let answered = tokio::time::timeout(deadline, answered.instrument(span)).await;
        let outcome = answered.unwrap_or_else(|_| Err(too_slow(deadline)).into());
        let line = Line {
            id: &context.id,
            kind,
            method: &method,
            client: context.client.address.as_deref(),
            elapsed: began.elapsed(),
        };
        finish(outcome, &line, entry)
    }
}

/// Makes the response of an outcome, and writes it down.
fn finish(outcome: Outcome, line: &Line<'_>, entry: Option<Entry>) -> AgentAnswer<ServiceBody> {
    let Outcome { result, audit, known, denied, revocation } = outcome;
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.status(),
    };
    log(line, status, result.as_ref().err(), audit.as_ref());
    let problem = result.as_ref().err().map(|error| error.detail().to_owned());
    let mut response = result.unwrap_or_else(|error| error.into_document(line.id));
    if line.kind == "recording" {
        make_private(response.headers_mut());
    }
    if let Ok(value) = HeaderValue::from_str(line.id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    if let Some(entry) = entry {
        let said = Said {
            audit: audit.as_ref(),
            known,
            denied,
            revocation: revocation.as_ref(),
            problem: problem.as_deref(),
        };
        if let Some(follow) = entry.answered(response.status(), response.headers(), said) {
            response = response.map(|body| body.followed(follow));
        }
    }
    AgentAnswer { response, audit, revocation }
}

fn too_slow(deadline: Duration) -> HttpError {
    let cause = format!("no answer within {} ms", deadline.as_millis());
    HttpError::new(StatusCode::GATEWAY_TIMEOUT, "the site's storage is too slow to answer; try again later")
        .because(cause)
}

struct Line<'a> {
    id: &'a str,
    kind: &'a str,
    method: &'a Method,
    client: Option<&'a str>,
    elapsed: Duration,
}

fn log(line: &Line<'_>, status: StatusCode, failure: Option<&HttpError>, audit: Option<&Audit>) {
    let Line { id, kind, method, client, elapsed } = line;
    let method = method.as_str();
    let status = status.as_u16();
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
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
