//! Recordings: reads the clear part of a signed link and passes the request on to an agent that can open it.

use std::{
    borrow::Cow,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::{
    signed_link::{LinkError, LinkHeader},
    site::SiteId,
};
use audiovault_protocol::message::AgentRequest;
use bytes::Bytes;
use http::{StatusCode, request::Parts, uri::PathAndQuery};

use super::{
    PublicState,
    answer::{Expected, count_error, from_agent},
    audit_events,
    context::RequestContext,
    entrance::{self, Answer},
    errors::{self, Absence},
    paths::RecordingPath,
    resume::resumable,
};
use crate::{
    limits::Subject,
    routing::dispatch::{RetryPolicy, RouteError},
    tunnel::registry::{AgentTarget, NoSession},
};

/// `/{site}/recordings/{token}/{name}`.
pub(super) async fn deliver(
    state: &PublicState,
    context: &RequestContext,
    path: &RecordingPath<'_>,
    parts: &Parts,
) -> Result<Answer, HttpError> {
    let client = context.client_key();
    let link = [&*path.token, &*path.name];
    let site = &*path.site;
    let throttle = &state.limits.throttle;
    let found = state.find(site).await?;
    let subject = match &found {
        Some(found) => Subject::link(client, found),
        None => Subject::link_by_name(client, site),
    };
    throttle.check_link(&subject, link, Instant::now())?;
    // Errors of the link itself are reported whether the site exists or not, so that an unauthenticated client cannot
    // find out which sites exist.
    let named = found.clone().or_else(|| SiteId::parse(site).ok());
    let header = read_header(named.as_ref(), &path.token).map_err(|error| {
        if error == LinkError::Forged {
            throttle.wrong(subject.clone(), Instant::now());
        }
        refuse(error)
    })?;
    let site = found.ok_or_else(errors::no_agent_for_link)?;
    // For the same reason, only a client whose token was right at this site lately, or whose link opened lately,
    // learns that the site is disabled or offline.
    let is_unauthenticated =
        !throttle.was_right_for(client, &site) && !throttle.opened_lately(&subject, link);
    let away =
        |error: HttpError| if is_unauthenticated { errors::no_agent_for_link() } else { error }.at(&site);
    if state.is_disabled(&site) {
        return Err(away(Absence::Disabled.into()));
    }
    entrance::enter_site(&site);
    let permit = state.enter_site(client, &site)?;
    let event = audit_events::delivery(&site, context);
    let target = AgentTarget { site: site.clone(), key: Some(header.key_id) };
    let request = to_agent(context, path, parts)?;
    let routed = match state.agents.send(&target, &request, RetryPolicy::for_client()).await {
        Err(RouteError::NoAgent(NoSession::Offline)) => return Err(away(Absence::Offline.into())),
        Err(RouteError::NoAgent(NoSession::OtherKey)) => return Err(errors::no_agent_for_link().at(&site)),
        routed => routed,
    };
    let permit = routed.as_ref().ok().and_then(|routed| routed.keep(permit));
    let result = from_agent(routed, Expected::Audio, &site)
        .map(|answered| resumable(&state.agents, target, request, answered));
    match result.as_ref().map(|answered| answered.response.status()) {
        Ok(StatusCode::FORBIDDEN) => throttle.wrong(subject, Instant::now()),
        Ok(status) if status.is_success() => throttle.link_opened(&subject, link),
        _ => {}
    }
    let counters = state.registry.counters(&site);
    match result {
        Ok(answered) => {
            count_error(answered.response.status(), &counters);
            let response = audit_events::handed_over(state, event, context, &parts.method, answered);
            Ok(Answer { response: response.map(|body| body.holding_site(permit)), site: Some(site) })
        }
        Err(error) => {
            count_error(error.status(), &counters);
            audit_events::refused(state, event, &error);
            Err(error)
        }
    }
}

/// Reads the clear part of a link for a site.
///
/// # Errors
/// [`LinkError::Forged`] and [`LinkError::Expired`].
fn read_header(site: Option<&SiteId>, token: &str) -> Result<LinkHeader, LinkError> {
    let header = LinkHeader::read(site.ok_or(LinkError::Forged)?, token)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match header {
        header if header.is_implausible(now) => Err(LinkError::Forged),
        header if header.is_expired(now) => Err(LinkError::Expired),
        header => Ok(header),
    }
}

fn refuse(error: LinkError) -> HttpError {
    let status = match error {
        LinkError::Forged | LinkError::TooLong => StatusCode::FORBIDDEN,
        LinkError::Expired | LinkError::OtherKey => StatusCode::GONE,
    };
    HttpError::new(status, error.to_string())
}

/// The request in the form that the agent's own service expects. Token and name are decoded. If they contain characters
/// that a path does not allow, they belong to no link.
fn to_agent(
    context: &RequestContext,
    path: &RecordingPath<'_>,
    parts: &Parts,
) -> Result<AgentRequest, HttpError> {
    let RecordingPath { token, name, .. } = path;
    let mut target = format!("/recordings/{token}/{name}");
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    // What was not decoded stood in a path already.
    let was_decoded = matches!(token, Cow::Owned(_)) || matches!(name, Cow::Owned(_));
    if was_decoded && target.parse::<PathAndQuery>().is_err() {
        return Err(refuse(LinkError::Forged));
    }
    Ok(AgentRequest { head: context.head_for_agent(parts, target), body: Bytes::new() })
}
