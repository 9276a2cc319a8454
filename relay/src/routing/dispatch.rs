//! Sends a request to one of the site's agents. If the tunnel or peer relay fails before a response starts, retries on
//! another.
//!
//! Searches, GET and HEAD change nothing at the site, so it is safe to send them twice. If a tunnel ends in the middle
//! of a response, the part that the relay already has is never mixed with the response of another agent: see
//! `public::resume`.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use audiovault_protocol::{
    http::problem::Problem,
    limits::RELAY_DEADLINE,
    link::{BodyError, CallError, TunnelBody},
    mux::OpenError,
};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::router::{AgentRoute, AgentRouter, TriedRoutes};
use crate::{
    cluster::{Cluster, Node, NodeAnswer, ProvenBody, Unreachable},
    limits::SitePermit,
    tunnel::{
        registry::{AgentTarget, NoSession},
        session::Session,
    },
};

/// Most agents that one request is sent to. At most one of them may have seen the request before the last one gets it;
/// the others were about to close when they were asked, and had done nothing.
const MOST_ASKED: usize = 4;
/// Divisor: after waiting for an agent, one third of the deadline is left for the response.
const LEFT_FOR_ANSWER: u32 = 3;

/// How long a request may take until its response begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    deadline: Instant,
    /// Until this moment the request waits for an agent that should be back soon.
    wait_until: Instant,
}

impl Deadlines {
    /// The deadlines of a request from a public client: [`RELAY_DEADLINE`] for everything.
    pub(crate) fn for_client() -> Self {
        let deadline = Instant::now() + RELAY_DEADLINE;
        Self { deadline, wait_until: deadline - RELAY_DEADLINE / LEFT_FOR_ANSWER }
    }

    /// Until when the request may wait for its permit, before it is sent to any agent.
    pub(crate) fn permit_until(self) -> Instant {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.deadline - left / LEFT_FOR_ANSWER
    }

    /// The deadlines of a request from a peer relay. The peer relay itself waits for agents, so this relay does not.
    pub(crate) fn for_peer(left: Duration) -> Self {
        let now = Instant::now();
        Self { deadline: now + left.min(RELAY_DEADLINE), wait_until: now }
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum RouteError {
    /// A tunnel of this relay reports an error.
    Call(CallError),
    /// A peer relay refuses the request and says why.
    Refused(Problem),
    /// A peer relay lost its tunnel, or the peer relay itself was lost.
    Lost,
    /// A peer relay has no agent that can take the request.
    NoAgent(NoSession),
    /// A peer relay did not answer in time.
    Deadline,
}

/// The result of sending a request.
pub(crate) struct Routed {
    /// The tunnel or peer relay that was asked last.
    pub(crate) route: AgentRoute,
    /// The response.
    pub(crate) called: Result<http::Response<AnswerBody>, RouteError>,
}

impl Routed {
    /// Keeps the request's permit at its site if an agent of this relay was asked. Otherwise returns `None`: the peer
    /// relay that was asked holds its own permit.
    pub(crate) fn keep(&self, permit: Option<SitePermit>) -> Option<SitePermit> {
        permit.filter(|_| matches!(self.route, AgentRoute::Local(_)))
    }
}

/// Sends the request. `request` builds it, once for each agent or peer relay that is asked.
///
/// # Errors
/// The outer error is that of `request`. The inner one is [`NoSession`], if no agent can take the request.
pub(crate) async fn dispatch<E>(
    agents: &AgentRouter,
    target: &AgentTarget,
    patience: Deadlines,
    request: impl Fn() -> Result<http::Request<Bytes>, E>,
) -> Result<Result<Routed, NoSession>, E> {
    let mut tried = TriedRoutes::default();
    let mut lost = false;
    let mut route = match agents.pick_expected(target, &tried, patience.wait_until).await {
        Ok(route) => route,
        Err(none) => return Ok(Err(none)),
    };
    loop {
        let left = patience.deadline.saturating_duration_since(Instant::now());
        tried.push(&route);
        let called = match &route {
            AgentRoute::Local(session) => {
                // If a second agent is silent, the relay waits for it: no other agent would be asked after it.
                let another = || !lost && agents.pick(target, &tried).is_ok_and(|other| !is_silent(&other));
                unless_silent(session, request()?, left, another).await
            }
            AgentRoute::Peer(node) => match agents.cluster() {
                Some(cluster) => ask_node(cluster, node, target, &request()?, left).await,
                None => Err(RouteError::NoAgent(NoSession::Offline)),
            },
        };
        if let Err(RouteError::NoAgent(_) | RouteError::Lost) = &called {
            tried.miss(&route);
        }
        let again = match &called {
            Err(RouteError::Call(CallError::Lost) | RouteError::Lost) => !std::mem::replace(&mut lost, true),
            Err(RouteError::Call(CallError::Refused | CallError::NotOpened(_))) => true,
            Err(RouteError::NoAgent(_)) => true,
            _ => false,
        };
        let next = match again && tried.tunnels() < MOST_ASKED {
            true => agents.pick_expected(target, &tried, patience.wait_until).await.ok(),
            false => None,
        };
        let Some(next) = next else {
            return Ok(match called {
                Err(RouteError::NoAgent(none)) => Err(none),
                called => Ok(Routed { route, called }),
            });
        };
        let from = route.name();
        let to = next.name();
        tracing::info!(
            site = %target.site,
            from,
            to,
            code = "request.retried",
            "retrying a request on another tunnel"
        );
        route = next;
    }
}

fn is_silent(route: &AgentRoute) -> bool {
    matches!(route, AgentRoute::Local(session) if session.caller.is_silent())
}

/// Asks an agent. If it falls silent and `another` agent can take the request, gives up on it.
async fn unless_silent(
    session: &Session,
    request: http::Request<Bytes>,
    patience: Duration,
    another: impl Fn() -> bool,
) -> Result<http::Response<AnswerBody>, RouteError> {
    let mut call = std::pin::pin!(session.caller.call_within(request, patience));
    let called = tokio::select! {
        biased;
        called = &mut call => called,
        () = session.caller.silent() => if another() { Err(CallError::Lost) } else { call.await },
    };
    called.map(|answer| answer.map(AnswerBody::Tunnel)).map_err(RouteError::Call)
}

/// Asks a peer relay.
pub(crate) async fn ask_node(
    cluster: &Cluster,
    node: &Node,
    target: &AgentTarget,
    request: &http::Request<Bytes>,
    patience: Duration,
) -> Result<http::Response<AnswerBody>, RouteError> {
    match cluster.call(node, target, request, patience).await {
        Ok(NodeAnswer::Answer(answer)) => Ok(answer.map(AnswerBody::Node)),
        Ok(NodeAnswer::Refused(problem)) => Err(RouteError::Refused(problem)),
        Ok(NodeAnswer::NoAgent(none)) => Err(RouteError::NoAgent(none)),
        Ok(NodeAnswer::Lost) | Err(Unreachable::Broken(_) | Unreachable::Lost) => Err(RouteError::Lost),
        // The request was not sent.
        Err(
            Unreachable::Connect(_)
            | Unreachable::Replaced
            | Unreachable::Plain
            | Unreachable::WrongIdentity
            | Unreachable::Unproven
            | Unreachable::UnexpectedAnswer(_),
        ) => Err(RouteError::NoAgent(NoSession::Offline)),
        Err(Unreachable::Deadline) => Err(RouteError::Deadline),
    }
}

impl RouteError {
    /// The problem that the public client gets.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Call(error) => of_call(&error),
            Self::Refused(problem) => problem,
            Self::Lost | Self::NoAgent(_) => renewed(),
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
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the site is reconnecting; try again").retry_after(2)
}

fn late() -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "the site's agent did not answer in time; try again")
}

/// The body of an agent's response.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Comes through a tunnel of this relay.
    Tunnel(TunnelBody),
    /// Comes through a peer relay.
    Node(ProvenBody),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Tunnel(body) => Pin::new(body).poll_frame(cx),
            Self::Node(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Node(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tunnel(body) => body.size_hint(),
            Self::Node(body) => body.size_hint(),
        }
    }
}
