//! Has one of a site's agents answer; where its tunnel, or the relay that holds it, is lost before anything was answered, another
//! one.
//!
//! Searches, GET and HEAD change nothing at the site, so asking twice is safe. What the relay has of an answer when its
//! tunnel ends is never mixed with another's: see [`crate::public::resume`].

use std::time::Duration;

use audiovault_protocol::{limits::RELAY_DEADLINE, link::CallError, mux::OpenError, problem::Problem};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::answer_body::AnswerBody;
use crate::{
    cluster::{Cluster, Node, NodeAnswer, Unreachable},
    limits::SiteSlot,
    routing::router::{Holder, Reach, Tried},
    tunnel::{
        registry::{NoSession, Wanted},
        session::Session,
    },
};

/// Agents that are asked for one request at most. Only one of them may have seen it before the last; the others were
/// going when they were asked, and had done nothing.
const MOST_ASKED: usize = 4;
/// The share of the deadline that is left for the answer when an agent was waited for.
const LEFT_FOR_ANSWER: u32 = 3;

/// How long a request may take until its answer begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    deadline: Instant,
    /// Until then an agent that should be back soon is waited for.
    wait_until: Instant,
}

impl Patience {
    /// That of the public: [`RELAY_DEADLINE`] for everything.
    pub(crate) fn of_public() -> Self {
        let deadline = Instant::now() + RELAY_DEADLINE;
        Self { deadline, wait_until: deadline - RELAY_DEADLINE / LEFT_FOR_ANSWER }
    }

    /// Until when the request may wait for its turn, before any agent is asked.
    pub(crate) fn place_until(self) -> Instant {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.deadline - left / LEFT_FOR_ANSWER
    }

    /// That of another relay, which does the waiting itself.
    pub(crate) fn of_relay(left: Duration) -> Self {
        let now = Instant::now();
        Self { deadline: now + left.min(RELAY_DEADLINE), wait_until: now }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The tunnel of this relay says so.
    Call(CallError),
    /// Another relay refuses, and knows why.
    Refused(Problem),
    /// Another relay lost its tunnel, or is lost itself.
    Lost,
    /// Another relay has nobody to ask.
    Nobody(NoSession),
    /// Another relay did not answer in time.
    Deadline,
}

/// What came of asking.
pub(crate) struct Asked {
    /// Who was asked last.
    pub(crate) holder: Holder,
    /// The answer.
    pub(crate) called: Result<http::Response<AnswerBody>, Unanswered>,
}

impl Asked {
    /// A request's place at its site, if this relay's agent was asked: where another one's was, it has its place there.
    pub(crate) fn keep(&self, slot: Option<SiteSlot>) -> Option<SiteSlot> {
        slot.filter(|_| matches!(self.holder, Holder::Here(_)))
    }
}

/// Asks. `request` makes the request, once for everybody who is asked.
///
/// # Errors
/// [`NoSession`] where there is nobody to ask; what `request` says is wrong.
pub(crate) async fn ask<E>(
    reach: &Reach,
    wanted: &Wanted,
    patience: Patience,
    request: impl Fn() -> Result<http::Request<Bytes>, E>,
) -> Result<Result<Asked, NoSession>, E> {
    let mut tried = Tried::default();
    let mut lost = false;
    let mut holder = match reach.await_pick(wanted, &tried, patience.wait_until).await {
        Ok(holder) => holder,
        Err(none) => return Ok(Err(none)),
    };
    loop {
        let left = patience.deadline.saturating_duration_since(Instant::now());
        tried.push(&holder);
        let called = match &holder {
            Holder::Here(session) => {
                // A second one that is silent is waited for: nobody would be asked after it.
                let another = || !lost && reach.pick(wanted, &tried).is_ok_and(|other| !is_silent(&other));
                unless_silent(session, request()?, left, another).await
            }
            Holder::There(node) => match reach.cluster() {
                Some(cluster) => ask_node(cluster, node, wanted, &request()?, left).await,
                None => Err(Unanswered::Nobody(NoSession::Offline)),
            },
        };
        if let Err(Unanswered::Nobody(_) | Unanswered::Lost) = &called {
            tried.miss(&holder);
        }
        let again = match &called {
            Err(Unanswered::Call(CallError::Lost) | Unanswered::Lost) => !std::mem::replace(&mut lost, true),
            Err(Unanswered::Call(CallError::Refused | CallError::NotOpened(_))) => true,
            Err(Unanswered::Nobody(_)) => true,
            _ => false,
        };
        let next = match again && tried.tunnels() < MOST_ASKED {
            true => reach.await_pick(wanted, &tried, patience.wait_until).await.ok(),
            false => None,
        };
        let Some(next) = next else {
            return Ok(match called {
                Err(Unanswered::Nobody(none)) => Err(none),
                called => Ok(Asked { holder, called }),
            });
        };
        let (from, to) = (holder.name(), next.name());
        tracing::info!(site = %wanted.site, from, to, "a request is asked of another tunnel");
        holder = next;
    }
}

fn is_silent(holder: &Holder) -> bool {
    matches!(holder, Holder::Here(session) if session.caller.is_silent())
}

/// Asks an agent, and gives it up where it falls silent while there is another.
async fn unless_silent(
    session: &Session,
    request: http::Request<Bytes>,
    patience: Duration,
    another: impl Fn() -> bool,
) -> Result<http::Response<AnswerBody>, Unanswered> {
    let mut call = std::pin::pin!(session.caller.call_within(request, patience));
    let called = tokio::select! {
        biased;
        called = &mut call => called,
        () = session.caller.silent() => if another() { Err(CallError::Lost) } else { call.await },
    };
    called.map(|answer| answer.map(AnswerBody::Tunnel)).map_err(Unanswered::Call)
}

/// Asks another relay.
pub(crate) async fn ask_node(
    cluster: &Cluster,
    node: &Node,
    wanted: &Wanted,
    request: &http::Request<Bytes>,
    patience: Duration,
) -> Result<http::Response<AnswerBody>, Unanswered> {
    match cluster.call(node, wanted, request, patience).await {
        Ok(NodeAnswer::Answer(answer)) => Ok(answer.map(AnswerBody::Node)),
        Ok(NodeAnswer::Refused(problem)) => Err(Unanswered::Refused(problem)),
        Ok(NodeAnswer::Nobody(none)) => Err(Unanswered::Nobody(none)),
        Ok(NodeAnswer::Lost) | Err(Unreachable::Broken(_) | Unreachable::Lost) => Err(Unanswered::Lost),
        // Nothing was asked.
        Err(
            Unreachable::Connect(_)
            | Unreachable::Replaced
            | Unreachable::Plain
            | Unreachable::Impostor
            | Unreachable::Unproven
            | Unreachable::Stranger(_),
        ) => Err(Unanswered::Nobody(NoSession::Offline)),
        Err(Unreachable::Deadline) => Err(Unanswered::Deadline),
    }
}

impl Unanswered {
    /// What the public is told of it.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Call(error) => of_call(&error),
            Self::Refused(problem) => problem,
            Self::Lost | Self::Nobody(_) => renewed(),
            Self::Deadline => late(),
        }
    }
}

fn of_call(error: &CallError) -> Problem {
    match error {
        CallError::Deadline => late(),
        CallError::TooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request is too large; send the fields of a search only",
        ),
        CallError::NotOpened(OpenError::TooManyStreams | OpenError::NoBudget) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the site is busy; try again in a moment")
                .retry_after(2)
        }
        CallError::NotOpened(OpenError::Closed) | CallError::Refused | CallError::Lost => renewed(),
        CallError::Reset(..) | CallError::Malformed => {
            Problem::new(StatusCode::BAD_GATEWAY, "the site's agent failed to answer; see its log")
        }
    }
}

fn renewed() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the site's connection is being renewed; try again")
        .retry_after(2)
}

fn late() -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "the site's agent did not answer in time; try again")
}
