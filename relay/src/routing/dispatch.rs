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
    link::{Answered, BodyError, CallError, TunnelBody},
    message::AgentRequest,
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

/// How a request is retried, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// How long the request waits while no agent can take it.
    wait: Wait,
    /// How long an agent may take to begin its response.
    patience: Patience,
    retried: Retried,
}

/// For which agents a request waits.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// For an agent that should be back soon.
    Expected(Instant),
    /// For any agent.
    Any(Instant),
}

#[derive(Debug, Clone, Copy)]
enum Patience {
    /// All agents together have until this moment.
    Until(Instant),
    /// Each agent has this long.
    Each(Duration),
}

/// Which failures lead to the next agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retried {
    /// Those after which at most one agent may have seen the request, at most [`MOST_ASKED`] times.
    Unseen,
    /// All, until the wait is over.
    All,
}

impl RetryPolicy {
    /// A request from a public client: [`RELAY_DEADLINE`] for everything.
    pub(crate) fn for_client() -> Self {
        let deadline = Instant::now() + RELAY_DEADLINE;
        Self {
            wait: Wait::Expected(deadline - RELAY_DEADLINE / LEFT_FOR_ANSWER),
            patience: Patience::Until(deadline),
            retried: Retried::Unseen,
        }
    }

    /// A request from a peer relay. The peer relay itself waits for agents, so this relay does not.
    pub(crate) fn for_peer(left: Duration) -> Self {
        let now = Instant::now();
        Self {
            wait: Wait::Expected(now),
            patience: Patience::Until(now + left.min(RELAY_DEADLINE)),
            retried: Retried::Unseen,
        }
    }

    /// The rest of a download, which any agent with its link key may deliver. Waits for one until `until`.
    pub(crate) fn for_rest(until: Instant) -> Self {
        Self { wait: Wait::Any(until), patience: Patience::Each(RELAY_DEADLINE), retried: Retried::All }
    }

    /// Until when the request may wait for its permit, before it is sent to any agent.
    pub(crate) fn permit_until(self) -> Instant {
        let now = Instant::now();
        now + self.left(now) * (LEFT_FOR_ANSWER - 1) / LEFT_FOR_ANSWER
    }

    /// How long the next agent may take.
    fn left(self, now: Instant) -> Duration {
        match self.patience {
            Patience::Until(deadline) => deadline.saturating_duration_since(now),
            Patience::Each(patience) => patience,
        }
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
    /// No agent can take the request.
    NoAgent(NoSession),
    /// A peer relay did not answer in time.
    Deadline,
}

/// The response to a request.
pub(crate) struct Routed {
    /// The tunnel or peer relay that has answered.
    pub(crate) route: AgentRoute,
    /// The agent's response.
    pub(crate) answered: Answered<AnswerBody>,
}

impl Routed {
    /// Keeps the request's permit at its site if an agent of this relay has answered. Otherwise returns `None`: the
    /// peer relay that has answered holds its own permit.
    pub(crate) fn keep(&self, permit: Option<SitePermit>) -> Option<SitePermit> {
        permit.filter(|_| matches!(self.route, AgentRoute::Local(_)))
    }
}

impl AgentRouter {
    /// Sends a request to one agent after the other, until one answers or the policy allows no more.
    ///
    /// # Errors
    /// The [`RouteError`] of the last agent that was asked; [`RouteError::NoAgent`] if none can take the request.
    pub(crate) async fn send(
        &self,
        target: &AgentTarget,
        request: &AgentRequest,
        policy: RetryPolicy,
    ) -> Result<Routed, RouteError> {
        let mut tried = TriedRoutes::default();
        let mut lost = false;
        let mut route = self.next_route(target, &tried, policy).await.map_err(RouteError::NoAgent)?;
        loop {
            let left = policy.left(Instant::now());
            tried.push(&route);
            let called = match &route {
                AgentRoute::Local(session) => {
                    // If a second agent is silent, the relay waits for it: no other agent would be asked after it.
                    let another = || !lost && self.pick(target, &tried).is_ok_and(|other| !is_silent(&other));
                    unless_silent(session, request.clone(), left, another).await
                }
                AgentRoute::Peer(node) => match self.cluster() {
                    Some(cluster) => ask_node(cluster, node, target, request, left).await,
                    None => Err(RouteError::NoAgent(NoSession::Offline)),
                },
            };
            let why = match called {
                Ok(answered) => return Ok(Routed { route, answered }),
                Err(why) => why,
            };
            if let RouteError::NoAgent(_) | RouteError::Lost = &why {
                tried.miss(&route);
            }
            let is_unseen = match &why {
                RouteError::Call(CallError::Lost) | RouteError::Lost => !std::mem::replace(&mut lost, true),
                RouteError::Call(CallError::Refused | CallError::NotOpened(_)) | RouteError::NoAgent(_) => {
                    true
                }
                RouteError::Call(_) | RouteError::Refused(_) | RouteError::Deadline => false,
            };
            let again = match policy.retried {
                Retried::Unseen => is_unseen && tried.tunnels() < MOST_ASKED,
                Retried::All => true,
            };
            let next = if again { self.next_route(target, &tried, policy).await.ok() } else { None };
            let Some(next) = next else {
                tracing::info!(
                    site = %target.site,
                    from = route.name(),
                    ?why,
                    code = "request.no_response",
                    "a request got no response"
                );
                return Err(why);
            };
            tracing::info!(
                site = %target.site,
                from = route.name(),
                to = next.name(),
                ?why,
                code = "request.retried",
                "retrying a request on another tunnel"
            );
            route = next;
        }
    }

    async fn next_route(
        &self,
        target: &AgentTarget,
        tried: &TriedRoutes,
        policy: RetryPolicy,
    ) -> Result<AgentRoute, NoSession> {
        match policy.wait {
            Wait::Expected(until) => self.pick_expected(target, tried, until).await,
            Wait::Any(until) => self.pick_until(target, tried, until).await,
        }
    }
}

fn is_silent(route: &AgentRoute) -> bool {
    matches!(route, AgentRoute::Local(session) if session.caller.is_silent())
}

/// Asks an agent. If it falls silent and `another` agent can take the request, gives up on it.
async fn unless_silent(
    session: &Session,
    request: AgentRequest,
    patience: Duration,
    another: impl Fn() -> bool,
) -> Result<Answered<AnswerBody>, RouteError> {
    let mut call = std::pin::pin!(session.caller.call_within(request, patience));
    let called = tokio::select! {
        biased;
        called = &mut call => called,
        () = session.caller.silent() => if another() { Err(CallError::Lost) } else { call.await },
    };
    called.map(|answered| answered.map(AnswerBody::Tunnel)).map_err(RouteError::Call)
}

/// Asks a peer relay.
async fn ask_node(
    cluster: &Cluster,
    node: &Node,
    target: &AgentTarget,
    request: &AgentRequest,
    patience: Duration,
) -> Result<Answered<AnswerBody>, RouteError> {
    match cluster.call(node, target, request, patience).await {
        Ok(NodeAnswer::Answer(answered)) => Ok(answered.map(AnswerBody::Node)),
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
