//! Searches: finds the site that is meant and passes the search on to one of its agents.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use audiovault_protocol::{
    context::{Client, RequestId},
    limits::MAX_REQUEST_BODY_LEN,
    parameters::{Field, ParameterError, Parameters},
    site::SiteId,
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header, request::Parts};

use super::{
    PublicState, Refusal,
    answer::{Expected, count_errors, from_agent},
    ask::{Asked, Patience, ask},
    client_key, on_record, request_body,
};
use crate::{
    limits::{ClientKey, HeldBody, Subject, Throttled, Trial},
    registry::Wanted,
};

/// What is said of a body over [`MAX_REQUEST_BODY_LEN`].
const TOO_LARGE: &str = "a search has at most 64 KiB";

/// `/{site}/search`: the path names the site.
pub(super) async fn by_path(
    State(state): State<Arc<PublicState>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let result = search_by_path(&state, &name, &parts, body).await;
    super::answer(result, &parts.extensions)
}

/// `/search`: a parameter names the site, or one of its tenants.
pub(super) async fn by_parameter(State(state): State<Arc<PublicState>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let result = search_by_parameter(&state, &parts, body).await;
    super::answer(result, &parts.extensions)
}

async fn search_by_path(
    state: &PublicState,
    name: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    check_method(parts)?;
    let site = state.site(name, client_key(&parts.extensions)).await?;
    let body = request_body::read(body, MAX_REQUEST_BODY_LEN, TOO_LARGE).await?;
    // What is wrong with the parameters is for the agent to say.
    let parameters = read_parameters(parts, &body).unwrap_or_default();
    pass_on(state, &site, &parameters, parts, body).await
}

async fn search_by_parameter(state: &PublicState, parts: &Parts, body: Body) -> Result<Response, Refusal> {
    check_method(parts)?;
    let body = request_body::read(body, MAX_REQUEST_BODY_LEN, TOO_LARGE).await?;
    let parameters = read_parameters(parts, &body)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let name = parameters.value(Field::Site).or_else(|| parameters.value(Field::Tenant));
    let name = name.ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "name the site, in the path or as the parameter `site` or `tenant`",
        )
    })?;
    let site = state.site(name, client_key(&parts.extensions)).await?;
    pass_on(state, &site, &parameters, parts, body).await
}

fn read_parameters(parts: &Parts, body: &[u8]) -> Result<Parameters, ParameterError> {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    Parameters::read(parts.uri.query(), kind, body)
}

/// The router sends HEAD where it sends GET; a search has no answer without its body.
fn check_method(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::HEAD {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "search with GET or POST"));
    }
    Ok(())
}

async fn pass_on(
    state: &PublicState,
    site: &SiteId,
    parameters: &Parameters,
    parts: &Parts,
    body: Bytes,
) -> Result<Response, Refusal> {
    let client = client_key(&parts.extensions);
    let mut slot = state.enter_site(client, site)?;
    // Where another relay has the agent, that one judges: guesses count there, from wherever they come.
    let trial = match state.reach.is_here(site) {
        true => Some(try_token(state, client, site, parameters).map_err(|no| Refusal::from(no).at(site))?),
        false => None,
    };
    let counters = state.registry.counters(site);
    counters.searches.fetch_add(1, Ordering::Relaxed);
    let event = on_record::search(site, parts, parameters);
    let wanted = Wanted { site: site.clone(), key: None };
    let asking = ask(&state.reach, &wanted, Patience::of_public(), || to_agent(parts, body.clone()));
    let result = match asking.await? {
        Ok(asked) => {
            judge(trial, &asked);
            slot = asked.keep(slot);
            let result = from_agent(asked, Expected::Json, site).map(|answer| answer.map(Body::new));
            on_record::answered(state, event, &result);
            result
        }
        Err(_) => Err(Refusal::offline().at(site)),
    };
    count_errors(&result, &counters);
    let mut response = result?;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(HeldBody::hold(response, slot))
}

/// Tenants that no agent of the site has announced are one for the throttle: their names may be made up.
pub(super) fn try_token(
    state: &PublicState,
    client: ClientKey,
    site: &SiteId,
    parameters: &Parameters,
) -> Result<Trial, Throttled> {
    let announced = |tenant: &&str| {
        let sessions = state.registry.sessions(site);
        sessions.iter().any(|session| session.hello.tenants.iter().any(|known| known == tenant))
    };
    let tenant = parameters.value(Field::Tenant).filter(announced);
    let subject = Subject::search(client, site, tenant);
    state.limits.throttle.try_token(subject, parameters.value(Field::Token), Instant::now())
}

/// Only the agent knows its tokens; how it answers tells.
pub(super) fn judge(trial: Option<Trial>, asked: &Asked) {
    let status = asked.called.as_ref().ok().map(http::Response::status);
    match (trial, status) {
        (Some(trial), Some(StatusCode::UNAUTHORIZED)) => trial.wrong(Instant::now()),
        (Some(trial), Some(status)) if status.is_success() => trial.right(),
        _ => {}
    }
}

/// The same request as the agent's own router knows it: without the site in its path.
fn to_agent(parts: &Parts, body: Bytes) -> Result<http::Request<Bytes>, Refusal> {
    let target = parts.uri.query().map_or_else(|| "/search".to_owned(), |query| format!("/search?{query}"));
    let mut request = http::Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() =
        target.parse().map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the query string is malformed"))?;
    *request.headers_mut() = parts.headers.clone();
    carry_context(parts, &mut request);
    Ok(request)
}

/// Sends along who asked, and under which id.
pub(super) fn carry_context(parts: &Parts, request: &mut http::Request<Bytes>) {
    let extensions = request.extensions_mut();
    if let Some(id) = parts.extensions.get::<RequestId>() {
        extensions.insert(id.clone());
    }
    if let Some(client) = parts.extensions.get::<Client>() {
        extensions.insert(client.clone());
    }
}
