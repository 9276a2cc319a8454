//! Recordings: looks at the clear part of a signed link and passes the request on to an agent that can open it.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use audiovault_protocol::signed_link::{LinkError, LinkHeader};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{StatusCode, request::Parts};

use super::{
    PublicState, Refusal,
    answer::{Expected, count_errors, from_agent, make_private},
    ask::{Patience, ask},
    client_key, on_record,
    resume::resumable,
    search::carry_context,
};
use crate::{
    limits::{Subject, hold},
    registry::{NoSession, Wanted},
};

/// `/{site}/recordings/{token}/{name}`.
pub(super) async fn deliver(
    State(state): State<Arc<PublicState>>,
    Path((site, token, name)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let result = pass_on(&state, &site, [&token, &name], &parts).await;
    let mut response = super::answer(result, &parts.extensions);
    make_private(response.headers_mut());
    response
}

async fn pass_on(
    state: &PublicState,
    site: &str,
    [token, name]: [&str; 2],
    parts: &Parts,
) -> Result<Response, Refusal> {
    let client = client_key(&parts.extensions);
    let site = state.site(site, client).await?;
    let refuse = |error| refuse(error).at(&site);
    let subject = Subject::link(client, &site);
    let throttle = &state.limits.throttle;
    throttle.check_link(&subject, [token, name], Instant::now()).map_err(|no| Refusal::from(no).at(&site))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let header = LinkHeader::read(&site, token).and_then(|header| match header.is_implausible(now) {
        true => Err(LinkError::Forged),
        false => Ok(header),
    });
    let header = header.map_err(|error| {
        throttle.wrong(subject.clone(), Instant::now());
        refuse(error)
    })?;
    if header.is_expired(now) {
        return Err(refuse(LinkError::Expired));
    }
    let slot = state.enter_site(client, &site)?;
    let event = on_record::delivery(&site, parts);
    let wanted = Wanted { site: site.clone(), key: Some(header.key_id) };
    let request = || to_agent(token, name, parts);
    let asked =
        ask(&state.reach, &wanted, Patience::of_public(), request).await?.map_err(|none| match none {
            NoSession::Offline => Refusal::offline().at(&site),
            NoSession::OtherKey => refuse(LinkError::OtherKey),
        })?;
    let slot = asked.keep(slot);
    let result = from_agent(asked, Expected::Audio, &site)
        .map(|response| resumable(&state.reach, wanted, || request().ok(), response));
    match result.as_ref().map(http::Response::status) {
        Ok(StatusCode::FORBIDDEN) => throttle.wrong(subject, Instant::now()),
        Ok(status) if status.is_success() => throttle.link_opened(&subject, [token, name]),
        _ => {}
    }
    count_errors(&result, &state.registry.counters(&site));
    match result {
        Ok(response) => Ok(hold(on_record::handed_over(state, event, parts, response), slot)),
        Err(refusal) => {
            on_record::refused(state, event, &refusal);
            Err(refusal)
        }
    }
}

fn refuse(error: LinkError) -> Refusal {
    let status = match error {
        LinkError::Forged | LinkError::TooLong => StatusCode::FORBIDDEN,
        LinkError::Expired | LinkError::OtherKey => StatusCode::GONE,
    };
    Refusal::new(status, &error.to_string())
}

/// The same request as the agent's own router knows it. Token and name were decoded by the router; what is not
/// plain in them belongs to no link.
fn to_agent(token: &str, name: &str, parts: &Parts) -> Result<http::Request<Bytes>, Refusal> {
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("/recordings/{token}/{name}{query}");
    let mut request = http::Request::new(Bytes::new());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = target.parse().map_err(|_| refuse(LinkError::Forged))?;
    *request.headers_mut() = parts.headers.clone();
    carry_context(parts, &mut request);
    Ok(request)
}
