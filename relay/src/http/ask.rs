//! Asks one of a site's agents; where its tunnel is lost before anything was answered, another one.
//!
//! Searches, GET and HEAD change nothing at the site, so asking twice is safe. What the relay has of an answer when its
//! tunnel ends is never mixed with another's: see [`super::resume`].

use std::{sync::Arc, time::Duration};

use audiovault_protocol::{
    limits::RELAY_DEADLINE,
    link::{CallError, TunnelBody},
    mux::OpenError,
};
use bytes::Bytes;
use tokio::time::Instant;

use super::Refusal;
use crate::{
    registry::{NoSession, Registry, Wanted},
    session::Session,
};

/// Agents that are asked for one request at most. Only one of them may have seen it before the last; the others were
/// going when they were asked, and had done nothing.
const MOST_ASKED: usize = 4;
/// The share of the deadline that is left for the answer when an agent was waited for.
const LEFT_FOR_ANSWER: u32 = 3;

/// What came of asking.
pub(super) struct Asked {
    /// Who was asked last.
    pub(super) session: Arc<Session>,
    /// Its answer.
    pub(super) called: Result<http::Response<TunnelBody>, CallError>,
}

/// Asks, within [`RELAY_DEADLINE`] for everything. `request` makes the request, once for every agent that is asked.
///
/// # Errors
/// [`NoSession`] where there is nobody to ask; what `request` says is wrong.
pub(super) async fn ask(
    registry: &Registry,
    wanted: &Wanted,
    request: impl Fn() -> Result<http::Request<Bytes>, Refusal>,
) -> Result<Result<Asked, NoSession>, Refusal> {
    let deadline = Instant::now() + RELAY_DEADLINE;
    let answer_from = deadline - RELAY_DEADLINE / LEFT_FOR_ANSWER;
    let mut tried = Vec::new();
    let mut lost = false;
    let mut session = match registry.await_pick(wanted, &tried, answer_from).await {
        Ok(session) => session,
        Err(none) => return Ok(Err(none)),
    };
    loop {
        let patience = deadline.saturating_duration_since(Instant::now());
        tried.push(Arc::clone(&session));
        let another = || registry.pick(wanted, &tried).is_ok_and(|other| !other.caller.is_silent());
        let called = unless_silent(&session, request()?, patience, another).await;
        let again = match &called {
            Err(CallError::Lost) => !std::mem::replace(&mut lost, true),
            Err(CallError::Refused | CallError::NotOpened(OpenError::Closed)) => true,
            _ => false,
        };
        if !again || tried.len() == MOST_ASKED {
            return Ok(Ok(Asked { session, called }));
        }
        let Ok(next) = registry.await_pick(wanted, &tried, answer_from).await else {
            return Ok(Ok(Asked { session, called }));
        };
        tracing::info!(site = %wanted.site, from = session.id, to = next.id, "a request is asked of another tunnel");
        session = next;
    }
}

/// Asks an agent, and gives it up where it falls silent while there is another.
async fn unless_silent(
    session: &Session,
    request: http::Request<Bytes>,
    patience: Duration,
    another: impl Fn() -> bool,
) -> Result<http::Response<TunnelBody>, CallError> {
    let mut call = std::pin::pin!(session.caller.call_within(request, patience));
    tokio::select! {
        biased;
        called = &mut call => return called,
        () = session.caller.silent() => {}
    }
    if another() { Err(CallError::Lost) } else { call.await }
}
