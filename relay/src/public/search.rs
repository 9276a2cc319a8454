//! Searches: finds the site of a search and passes the search on to one of its agents.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use audiovault_common::{http_error::HttpError, request_body::read_body};
use audiovault_protocol::{
    http::parameters::{Field, Parameters, token_names, values_named},
    identity::site::SiteId,
    limits::MAX_REQUEST_BODY_LEN,
    link::Answered,
    message::AgentRequest,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;

use super::{
    PublicState,
    answer::{Expected, count_error, from_agent, search_answer, status},
    audit_events,
    body::PublicBody,
    context::RequestContext,
    entrance::{self, Answer},
    errors::{self, Absence},
    paths::SearchedSite,
    tunnel::site_key,
};
use crate::{
    limits::{ClientKey, Guess, Subject, Throttled, Trial},
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

/// `/{site}/search` and `/search`.
pub(super) async fn search(
    state: &PublicState,
    context: &RequestContext,
    site: SearchedSite<'_>,
    parts: &Parts,
    body: Incoming,
) -> Result<Answer, HttpError> {
    check_method(state, parts)?;
    let body = read_body(body, MAX_REQUEST_BODY_LEN, TOO_LARGE).await?;
    let parameters = read_parameters(parts, &body)?;
    let name = match &site {
        SearchedSite::Named(name) => Some(&**name),
        SearchedSite::ByParameter { otherwise } => {
            let named = parameters.value(Field::Site).or_else(|| parameters.value(Field::Tenant));
            named.or(otherwise.as_deref())
        }
    };
    let name = name.ok_or_else(|| {
        HttpError::new(
            StatusCode::BAD_REQUEST,
            "name the site, in the path or as the parameter `site` or `tenant`",
        )
    })?;
    search_at(state, context, name, &parameters, parts, body).await
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
    context: &RequestContext,
    name: &str,
    parameters: &Parameters,
    parts: &Parts,
    body: Bytes,
) -> Result<Answer, HttpError> {
    let answer_at = tokio::time::Instant::now() + UNPROVEN_AFTER;
    let client = context.client_key();
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
        Some(site) => pass_on(state, context, site, parameters, parts, body).await,
    };
    let at_site = |error: HttpError| match &found {
        Some(site) => error.at(site),
        None => error,
    };
    match result {
        Ok(response) if response.status() != StatusCode::UNAUTHORIZED => {
            return Ok(Answer { response, site: found });
        }
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

/// Checks the method. The response to a search is useless without its body, so there is no HEAD. A search by GET has its
/// token in the address, which proxies log.
fn check_method(state: &PublicState, parts: &Parts) -> Result<(), HttpError> {
    let allowed = if state.search_by_get { "GET, POST" } else { "POST" };
    match parts.method {
        Method::POST => Ok(()),
        Method::GET if state.search_by_get => Ok(()),
        Method::GET => {
            let detail = "this relay accepts searches by POST only (--search-by-get)";
            Err(HttpError::method_not_allowed(detail, allowed))
        }
        Method::HEAD => Err(HttpError::method_not_allowed("search with GET or POST", allowed)),
        _ => Err(entrance::method_not_allowed(allowed)),
    }
}

async fn pass_on(
    state: &PublicState,
    context: &RequestContext,
    site: &SiteId,
    parameters: &Parameters,
    parts: &Parts,
    body: Bytes,
) -> Result<Response<PublicBody>, NoResponse> {
    let client = context.client_key();
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
    entrance::enter_site(site);
    let counters = state.registry.counters(site);
    counters.searches.fetch_add(1, Ordering::Relaxed);
    let mut event = audit_events::search(site, context, parameters);
    let target = AgentTarget { site: site.clone(), key: None };
    let routed = state.agents.send(&target, &to_agent(context, parts, body), policy).await;
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
    Ok(response.map(|body| body.holding_site(permit)))
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
fn to_agent(context: &RequestContext, parts: &Parts, body: Bytes) -> AgentRequest {
    let target = parts.uri.query().map_or_else(|| "/search".to_owned(), |query| format!("/search?{query}"));
    AgentRequest { head: context.head_for_agent(parts, target), body }
}
