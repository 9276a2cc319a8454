//! `/search`: finds the recordings that belong to a call.

use std::time::{Duration, Instant, SystemTime};

use audiovault_agent_core::{
    layout::delivered_extension,
    query::{Linked, Query, parse_start},
};
use audiovault_common::{advice::without_causes, error_chain::causes_in_one_line};
use audiovault_common::{http_error::HttpError, request_body::read_body};
use audiovault_protocol::{
    admission::throttle::ClientKey,
    http::{
        context::{Audit, RequestContext},
        parameters::{Field, Parameters},
    },
    limits::MAX_REQUEST_BODY_LEN,
};
use axum::BoxError;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body::Body;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::{
    AgentService, errors,
    outcome::{Outcome, ServiceBody},
};
use crate::{
    audit::call_in_log,
    auth::Grant,
    http::links::LinkedRequest,
    limits::throttle::{Attempt, NoGrant, client_key},
    storage::{Findings, recording::Recording},
};

/// The error for a body over [`MAX_REQUEST_BODY_LEN`].
const TOO_LARGE: &str = "the request body is longer than 64 KiB";

/// The response; scripts rely on its shape.
#[derive(Serialize)]
struct Answer {
    status: &'static str,
    complete: bool,
    files: Vec<File>,
}

/// One recording as its link delivers it. Times are RFC 3339 in UTC with whole seconds; `duration` is seconds of sound.
#[derive(Serialize)]
struct File {
    filename: String,
    /// The name of the file, if it is delivered in another form.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    url: String,
    size: u64,
    modified: String,
    content_type: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    empty: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    growing: bool,
}

/// Answers a search.
pub(super) async fn search<B>(
    service: &AgentService,
    context: &RequestContext,
    parts: &Parts,
    body: B,
) -> Outcome
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let mut said = Said::default();
    let answered = answer(service, context, parts, body, &mut said).await;
    let result = answered.and_then(|answer| respond(&service.dialect.shape(answer)));
    Outcome { audit: Some(said.audit), known: said.known, denied: said.denied, ..result.into() }
}

/// The response with this JSON.
fn respond(answer: &Value) -> Result<Response<ServiceBody>, HttpError> {
    let json = serde_json::to_vec(answer).map_err(|error| unserializable(&error))?;
    let mut response = Response::new(Bytes::from(json).into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn unserializable(error: &serde_json::Error) -> HttpError {
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: could not serialize the response")
        .because(error.to_string())
}

/// What the audit log needs of a search, even of one that is refused.
#[derive(Default)]
struct Said {
    audit: Audit,
    /// Whether the token is accepted.
    known: bool,
    /// Whether recordings were found but left out, or the whole call is denied.
    denied: bool,
}

async fn answer<B>(
    service: &AgentService,
    context: &RequestContext,
    head: &Parts,
    body: B,
    said: &mut Said,
) -> Result<Value, HttpError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    if head.method != Method::GET && head.method != Method::POST {
        return Err(errors::method("GET, POST"));
    }
    let body = read_body(body, MAX_REQUEST_BODY_LEN, TOO_LARGE).await?;
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let parameters = Parameters::read_with(&service.dialect.names, head.uri.query(), content_type, &body)
        .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    said.audit = audit(service, &parameters);
    // A client without a valid token must not learn anything about the rest of the request.
    let grant = service.admit(&parameters, client_key(&context.client))?;
    said.known = true;
    said.audit.tenant.clone_from(&grant.tenant);
    if service.verbose_search {
        tracing::info!(
            known = ?parameters,
            unknown = ?parameters.unknown(),
            code = "search.fields",
            "the fields of a search"
        );
    }
    let mut query = read_query(service, &parameters, &grant)?;
    let call_id = query.call_id.as_str().to_owned();
    let on_record = service.linked(&mut query).await;
    let rules = service.deny.rules().await;
    let findings = service.storage.find_allowed(query, grant.scope, &rules).await;
    said.denied = findings.denied > 0 || rules.deny_call(&call_id);
    let user = parameters.value(Field::User);
    let mut answer =
        service.answer(&findings, LinkedRequest { grant: &grant, call_id: &call_id, user }, &context.base);
    answer.complete &= on_record;
    said.audit.found = u32::try_from(answer.files.len()).ok();
    serde_json::to_value(answer).map_err(|error| unserializable(&error))
}

/// The audit details of a request. A value that is not a call id may be a telephone number and is left out.
fn audit(service: &AgentService, parameters: &Parameters) -> Audit {
    let value = |field| parameters.value(field).map(str::to_owned);
    let call_ids = &service.storage.settings().call_ids;
    let call_id = parameters.value(Field::CallId).and_then(|text| call_ids.parse(text).ok());
    Audit {
        call_id: call_id.map(|call_id| call_id.as_str().to_owned()),
        tenant: value(Field::Tenant),
        user: value(Field::User),
        ..Audit::default()
    }
}

fn read_query(service: &AgentService, parameters: &Parameters, grant: &Grant) -> Result<Query, HttpError> {
    let bad = |detail: &dyn std::fmt::Display| HttpError::new(StatusCode::BAD_REQUEST, detail.to_string());
    let settings = service.storage.settings();
    let call_id =
        parameters.value(Field::CallId).ok_or_else(|| bad(&"the request has no call id; send callid"))?;
    let call_id = settings.call_ids.parse(call_id).map_err(|error| bad(&error))?;
    let start = parameters.value(Field::Start).map(|start| parse_start(start, &settings.zone));
    let value = |field| parameters.value(field).map(str::to_owned);
    Ok(Query {
        call_id,
        start: start.transpose().map_err(|error| bad(&error))?,
        tenant: grant.tenant.clone(),
        server: value(Field::Server),
        queue: value(Field::Queue),
        agent: value(Field::Agent),
        linked: Linked::default(),
    })
}

impl AgentService {
    /// Checks the token of a search.
    fn admit(&self, parameters: &Parameters, client: ClientKey) -> Result<Grant, HttpError> {
        let token = parameters.value(Field::Token);
        let tenant = parameters.value(Field::Tenant);
        // All unknown tenant names count as one; otherwise each made-up name would be a new pair for the throttle.
        let known = tenant.and_then(|tenant| self.access.tenant_named(tenant));
        let attempt = Attempt { client, tenant: known, token };
        let judged = self.throttle.check(&attempt, Instant::now(), || self.access.check(token, tenant));
        judged.map_err(|refused| match refused {
            NoGrant::Denied(denied) => HttpError::wrong_token(denied.to_string()),
            NoGrant::Throttled(wait) => errors::throttled(wait),
        })
    }

    /// Adds the linked legs of the conversation from the call records. Returns false if the database could not be
    /// asked.
    async fn linked(&self, query: &mut Query) -> bool {
        let Some(cdr) = &self.cdr else { return true };
        match cdr.linked(&query.call_id, &self.storage.settings().call_ids).await {
            Ok(linked) => query.linked = linked,
            Err(error) => {
                let cause = causes_in_one_line(&error);
                tracing::warn!(
                    cause,
                    code = "search.legs_unknown",
                    "cannot find the other legs of a conversation: {}",
                    without_causes(&error)
                );
                return false;
            }
        }
        true
    }

    fn answer(&self, findings: &Findings, asked: LinkedRequest<'_>, base: &str) -> Answer {
        let mut answer = Answer { status: "ok", complete: findings.complete, files: Vec::new() };
        for recording in &findings.recordings {
            match self.links.mint(asked, recording.root, &recording.path) {
                Ok((token, expires)) => {
                    let url = format!("{base}/recordings/{token}/{}", link_name(&recording.extension));
                    answer.files.push(File::new(recording, url, expires));
                }
                Err(error) => {
                    answer.complete = false;
                    tracing::warn!(
                        call = call_in_log(asked.call_id),
                        %error,
                        code = "search.recording_omitted",
                        "omitted a recording from a response"
                    );
                }
            }
        }
        answer
    }
}

/// The last part of a link: only the extension of the delivered form, which some players need.
pub(crate) fn link_name(extension: &str) -> String {
    format!("recording.{}", delivered_extension(extension))
}

impl File {
    fn new(recording: &Recording, url: String, expires: u64) -> Self {
        let name = recording.name().to_string_lossy().into_owned();
        Self {
            filename: recording.delivered_name().to_string_lossy().into_owned(),
            original: recording.decoded.map(|_| name),
            url,
            size: recording.delivered_size(),
            modified: rfc3339(recording.modified),
            content_type: recording.delivered_type(),
            expires: rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(expires)),
            duration: recording.duration.map(|duration| duration.as_secs_f64()),
            empty: recording.empty,
            growing: recording.growing,
        }
    }
}

/// RFC 3339 in UTC, in whole seconds.
fn rfc3339(time: SystemTime) -> String {
    let seconds = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).as_second();
    Timestamp::from_duration(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
