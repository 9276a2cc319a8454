//! Searches: finds the site that is meant and passes the search on to one of its agents.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use audiovault_protocol::{
    context::{Client, RequestId},
    limits::MAX_REQUEST_BODY_LEN,
    parameters::{Field, ParameterError, Parameters, token_names, values_named},
    site::SiteId,
};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use super::{
    PublicState, Refusal,
    answer::{Expected, count_errors, from_agent},
    ask::{Asked, Patience, ask},
    client_key, on_record, request_body, search_answer,
};
use crate::{
    limits::{ClientKey, Guess, Subject, Throttled, Trial, hold},
    registry::Wanted,
    session::{Session, TokenFields},
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
    Parameters::read(parts.uri.query(), content_type(&parts.headers), body)
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok())
}

/// Names the methods of a search where another one was tried (RFC 9110, section 15.5.6). The router would name HEAD as well.
pub(super) async fn allow(mut response: Response) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
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
    let patience = Patience::of_public();
    // Where another relay has the agent, that one judges: guesses count there, from wherever they come.
    let trial = match state.reach.is_here(site) {
        true => {
            let text = SearchText {
                query: parts.uri.query(),
                content_type: content_type(&parts.headers),
                body: &body,
            };
            let presented = Presented::new(&state.registry.sessions(site), &text, parameters);
            let trial = try_token(state, client, site, &presented, patience.place_until());
            Some(trial.await.map_err(|no| Refusal::from(no).at(site))?)
        }
        false => None,
    };
    let counters = state.registry.counters(site);
    counters.searches.fetch_add(1, Ordering::Relaxed);
    let event = on_record::search(site, parts, parameters);
    let wanted = Wanted { site: site.clone(), key: None };
    let asking = ask(&state.reach, &wanted, patience, || to_agent(parts, body.clone()));
    let result = match asking.await? {
        Ok(asked) => {
            judge(trial, &asked);
            slot = asked.keep(slot);
            let result = match from_agent(asked, Expected::Json, site) {
                Ok(answer) => search_answer::own(answer, site, &state.public_url).await,
                Err(refusal) => Err(refusal),
            };
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
    Ok(hold(response, slot))
}

/// Where the fields of a search stand.
pub(super) struct SearchText<'a> {
    pub(super) query: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// What a search presents to the throttle.
pub(super) struct Presented<'a> {
    /// Tenants that no agent of the site has announced are one: their names may be made up.
    tenant: Option<&'a str>,
    tokens: Cow<'a, [String]>,
    /// Whether every agent of the site has told where it takes the token.
    certain: bool,
}

impl<'a> Presented<'a> {
    /// `parameters` are what stands in the search under the usual names. The token is looked for under all names that any agent of
    /// the site takes it by: the one that is asked uses one of them.
    pub(super) fn new(sessions: &[Arc<Session>], text: &SearchText<'_>, parameters: &'a Parameters) -> Self {
        let announced = |tenant: &&str| sessions.iter().any(|session| session.tenants.contains(tenant));
        let mut tokens = Cow::Borrowed(parameters.tokens());
        if sessions.iter().any(|session| session.token_fields == TokenFields::Own) {
            let told = sessions.iter().filter_map(|session| session.hello.told_token_fields());
            let mut names: Vec<String> = told.flatten().cloned().collect();
            if sessions.iter().any(|session| session.token_fields == TokenFields::Untold) {
                names.extend(token_names(&[]));
            }
            let read = values_named(&names, text.query, text.content_type, text.body);
            tokens = Cow::Owned(read.unwrap_or_default());
        }
        Self {
            tenant: parameters.value(Field::Tenant).filter(announced),
            tokens,
            certain: sessions.iter().all(|session| session.token_fields != TokenFields::Untold),
        }
    }
}

/// Has the throttle admit a search, which may wait for others until `until`.
pub(super) async fn try_token(
    state: &PublicState,
    client: ClientKey,
    site: &SiteId,
    presented: &Presented<'_>,
    until: tokio::time::Instant,
) -> Result<Trial, Throttled> {
    let subject = Subject::search(client, site, presented.tenant);
    let guess = Guess::Secret { values: &presented.tokens, certain: presented.certain };
    state.limits.throttle.try_token(subject, guess, until).await
}

/// Only the agent knows its tokens; how it answers tells.
pub(super) fn judge(trial: Option<Trial>, asked: &Asked) {
    let status = asked.called.as_ref().ok().map(http::Response::status);
    match (trial, status) {
        (Some(trial), Some(StatusCode::UNAUTHORIZED)) => trial.wrong(Instant::now()),
        (Some(trial), Some(StatusCode::TOO_MANY_REQUESTS)) => trial.throttled(Instant::now()),
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
