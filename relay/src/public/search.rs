//! Searches: finds the site of a search and passes the search on to one of its agents.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use audiovault_common::http_error::HttpError;
use audiovault_common::request_body::read_body;
use audiovault_protocol::{
    http::{
        context::{Client, RequestId},
        headers,
        parameters::{Field, Parameters, token_names, values_named},
    },
    identity::site::SiteId,
    limits::MAX_REQUEST_BODY_LEN,
    link::Answered,
    message::{AgentRequest, RequestHead},
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use super::{
    PublicState, access_log,
    answer::{Expected, count_error, from_agent, search_answer, status},
    audit_events, client_key,
    errors::{self, Absence},
    site_host::HostOfNoSite,
    tunnel::site_key,
};
use crate::{
    limits::{ClientKey, Guess, Subject, Throttled, Trial, hold},
    routing::dispatch::{RetryPolicy, RouteError},
    tunnel::{
        registry::AgentTarget,
        session::{Session, TokenFields},
    },
};

/// When a search without a correct token gets its response: later than nearly all agents answer.
const UNPROVEN_AFTER: Duration = Duration::from_millis(500);

/// The error for a body over [`MAX_REQUEST_BODY_LEN`].
const TOO_LARGE: &str = "a search can have at most 64 KiB";

/// `/{site}/search`: the path names the site.
pub(super) async fn by_path(
    State(state): State<Arc<PublicState>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    check_method(&state, &parts)?;
    let body = read_body(body, MAX_REQUEST_BODY_LEN, TOO_LARGE).await?;
    let parameters = read_parameters(&parts, &body)?;
    search_at(&state, &name, &parameters, &parts, body).await
}

/// `/search`: a parameter names the site, or a tenant whose name is an alias of the site.
pub(super) async fn by_parameter(
    State(state): State<Arc<PublicState>>,
    request: Request,
) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    check_method(&state, &parts)?;
    let body = read_body(body, MAX_REQUEST_BODY_LEN, TOO_LARGE).await?;
    let parameters = read_parameters(&parts, &body)?;
    let of_host = || parts.extensions.get::<HostOfNoSite>().map(|host| host.0.as_str());
    let name = parameters.value(Field::Site).or_else(|| parameters.value(Field::Tenant)).or_else(of_host);
    let name = name.ok_or_else(|| {
        HttpError::new(
            StatusCode::BAD_REQUEST,
            "name the site, in the path or as the parameter `site` or `tenant`",
        )
    })?;
    search_at(&state, name, &parameters, &parts, body).await
}

/// Searches at the site with this name or alias.
///
/// A client that has shown no correct token always gets the same response after the same time, whether the token is
/// wrong, the site is away or the site does not exist. Otherwise unauthenticated clients could list the customers of a
/// relay. Only agents know the tokens. Therefore a client learns that a site is away only if a token of that client
/// was right there lately, or if the request carries the key of the site.
///
/// What can still be observed: an agent that needs longer than [`UNPROVEN_AFTER`] or fails to answer, the seconds in
/// which requests wait for an agent whose tunnel has just broken, and limits that many clients reach together.
async fn search_at(
    state: &PublicState,
    name: &str,
    parameters: &Parameters,
    parts: &Parts,
    body: Bytes,
) -> Result<Response, HttpError> {
    let answer_at = tokio::time::Instant::now() + UNPROVEN_AFTER;
    let client = client_key(&parts.extensions);
    let throttle = &state.limits.throttle;
    let by_name = Subject::search_by_name(client, name);
    let found = state.find(name).await?;
    let is_known = |site: &SiteId| throttle.was_right_for(client, site) || shows_key(state, site, parts);
    let is_unauthenticated = found.as_ref().is_none_or(|site| !is_known(site));
    let serves = |site: &&SiteId| !state.is_disabled(site) && state.agents.is_anywhere(site);
    if is_unauthenticated && found.as_ref().filter(serves).is_none() {
        throttle.check(&by_name, Instant::now())?;
    }
    let result = match &found {
        None => Err(NoResponse::Absent(Absence::Unknown)),
        Some(site) if state.is_disabled(site) => Err(NoResponse::Absent(Absence::Disabled)),
        Some(site) => pass_on(state, site, parameters, parts, body).await,
    };
    let at_site = |error: HttpError| match &found {
        Some(site) => error.at(site),
        None => error,
    };
    match result {
        Ok(response) if response.status() != StatusCode::UNAUTHORIZED => return Ok(response),
        // Gives back the request's permit at its site before the wait.
        Ok(response) => drop(response),
        Err(NoResponse::Absent(absence)) if is_unauthenticated => {
            throttle.wrong(by_name, Instant::now());
            tracing::debug!(
                site = found.as_ref().map_or("-", SiteId::as_str),
                ?absence,
                "hiding the reason of a failure from a client without a correct search token"
            );
        }
        Err(NoResponse::Absent(absence)) => return Err(at_site(absence.into())),
        Err(NoResponse::Failed(error)) => return Err(error),
    }
    tokio::time::sleep_until(answer_at).await;
    Err(at_site(errors::unproven()))
}

/// Why a search has no response of an agent.
enum NoResponse {
    /// The site cannot be asked.
    Absent(Absence),
    /// The request failed on its way.
    Failed(HttpError),
}

impl From<HttpError> for NoResponse {
    fn from(error: HttpError) -> Self {
        Self::Failed(error)
    }
}

/// Whether a request comes from the site itself: an agent that tests a search sends its site key.
fn shows_key(state: &PublicState, site: &SiteId, parts: &Parts) -> bool {
    site_key(&parts.headers)
        .is_some_and(|key| key.site() == site && state.directory().verify_key(&key).is_ok())
}

/// Reads the parameters. All agents read them by the same rules, even if they use other names for them, so an error in
/// them is reported without asking an agent.
fn read_parameters(parts: &Parts, body: &[u8]) -> Result<Parameters, HttpError> {
    Parameters::read(parts.uri.query(), content_type(&parts.headers), body)
        .map_err(|error| HttpError::new(StatusCode::BAD_REQUEST, error.to_string()))
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok())
}

/// Adds `Allow` to a response for a wrong method (RFC 9110, section 15.5.6). The router would list HEAD as well.
pub(super) async fn allow(State(state): State<Arc<PublicState>>, mut response: Response) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let methods = if state.search_by_get { "GET, POST" } else { "POST" };
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// Checks the method. The router treats HEAD like GET, but the response to a search is useless without its body. A
/// search by GET has its token in the address, which proxies log.
fn check_method(state: &PublicState, parts: &Parts) -> Result<(), HttpError> {
    let detail = match parts.method {
        Method::GET if !state.search_by_get => "this relay accepts searches by POST only (--search-by-get)",
        Method::HEAD => "search with GET or POST",
        _ => return Ok(()),
    };
    Err(HttpError::new(StatusCode::METHOD_NOT_ALLOWED, detail))
}

async fn pass_on(
    state: &PublicState,
    site: &SiteId,
    parameters: &Parameters,
    parts: &Parts,
    body: Bytes,
) -> Result<Response, NoResponse> {
    let client = client_key(&parts.extensions);
    let mut permit = state.enter_site(client, site)?;
    let policy = RetryPolicy::for_client();
    // If a peer relay has the agent, the peer checks the token: guesses count there, no matter which relay received
    // them.
    let trial = match state.agents.is_here(site) {
        true => {
            let text = SearchText {
                query: parts.uri.query(),
                content_type: content_type(&parts.headers),
                body: &body,
            };
            let presented = Presented::new(&state.registry.sessions(site), &text, parameters);
            let trial = try_token(state, client, site, &presented, policy.permit_until());
            Some(trial.await.map_err(|no| HttpError::from(no).at(site))?)
        }
        false => None,
    };
    access_log::enter_site(site);
    let counters = state.registry.counters(site);
    counters.searches.fetch_add(1, Ordering::Relaxed);
    let mut event = audit_events::search(site, parts, parameters);
    let target = AgentTarget { site: site.clone(), key: None };
    let routed = state.agents.send(&target, &to_agent(parts, body), policy).await;
    if let Err(RouteError::NoAgent(_)) = routed {
        count_error(HttpError::from(Absence::Offline).status(), &counters);
        return Err(NoResponse::Absent(Absence::Offline));
    }
    let agents_status = routed.as_ref().ok().map(|routed| routed.answered.response.status());
    if trial.is_none() && agents_status.is_some_and(|status| status.is_success()) {
        state.limits.throttle.right_for(client, site);
    }
    settle(trial, agents_status);
    permit = routed.as_ref().ok().and_then(|routed| routed.keep(permit));
    let result = match from_agent(routed, Expected::Json, site) {
        Ok(Answered { response, audit }) => {
            if let Some(audit) = &audit {
                event.describe(audit);
            }
            search_answer(response, site, &state.public_url).await
        }
        Err(error) => Err(error),
    };
    audit_events::answered(state, event, status(&result));
    count_error(status(&result), &counters);
    let mut response = result?;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(hold(response, permit))
}

/// The parts of a request that contain the fields of a search.
pub(super) struct SearchText<'a> {
    pub(super) query: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// What a search presents to the throttle.
pub(super) struct Presented<'a> {
    /// The tenant; `None` if no agent of the site has announced it, because such a name may be made up.
    tenant: Option<&'a str>,
    tokens: Cow<'a, [String]>,
    /// Whether every agent of the site has announced the field names of its token.
    certain: bool,
}

impl<'a> Presented<'a> {
    /// `parameters` are the fields of the search under the usual names. The token is read under every name that any
    /// agent of the site uses for it: the agent that gets the search uses one of them.
    pub(super) fn new(sessions: &[Arc<Session>], text: &SearchText<'_>, parameters: &'a Parameters) -> Self {
        let announced = |tenant: &&str| sessions.iter().any(|session| session.tenants.contains(tenant));
        let mut tokens = Cow::Borrowed(parameters.tokens());
        if sessions.iter().any(|session| session.token_fields == TokenFields::Own) {
            let stated = sessions.iter().filter_map(|session| session.hello.stated_token_fields());
            let mut names: Vec<String> = stated.flatten().cloned().collect();
            if sessions.iter().any(|session| session.token_fields == TokenFields::NotAnnounced) {
                names.extend(token_names(&[]));
            }
            let read = values_named(&names, text.query, text.content_type, text.body);
            tokens = Cow::Owned(read.unwrap_or_default());
        }
        Self {
            tenant: parameters.value(Field::Tenant).filter(announced),
            tokens,
            certain: sessions.iter().all(|session| session.token_fields != TokenFields::NotAnnounced),
        }
    }
}

/// Asks the throttle to admit a search. It may wait for other attempts until `until`.
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

/// Reports the result of a token to the throttle. Only the agent knows its tokens, so the status of its response
/// decides.
pub(super) fn settle(trial: Option<Trial>, status: Option<StatusCode>) {
    match (trial, status) {
        (Some(trial), Some(StatusCode::UNAUTHORIZED)) => trial.wrong(Instant::now()),
        (Some(trial), Some(StatusCode::TOO_MANY_REQUESTS)) => trial.throttled(Instant::now()),
        (Some(trial), Some(status)) if status.is_success() => trial.right(),
        _ => {}
    }
}

/// The request in the form that the agent's own service expects: without the site in its path.
fn to_agent(parts: &Parts, body: Bytes) -> AgentRequest {
    let target = parts.uri.query().map_or_else(|| "/search".to_owned(), |query| format!("/search?{query}"));
    AgentRequest { head: head_for_agent(parts, target), body }
}

/// The head of a request for an agent, with the client and the id of the request.
pub(super) fn head_for_agent(parts: &Parts, target: String) -> RequestHead {
    RequestHead {
        request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        method: parts.method.as_str().to_owned(),
        target,
        headers: headers::of_request(&parts.headers),
        deadline_ms: 0,
        client: parts.extensions.get::<Client>().cloned().unwrap_or_default(),
    }
}
