//! Errors for public clients: one sentence each, and when to try again.

use std::time::Duration;

use audiovault_protocol::{
    http::{context::RequestId, problem::Problem},
    identity::site::SiteId,
};
use axum::{body::Body, response::Response};
use http::{Extensions, HeaderValue, StatusCode, header};

use super::access_log::LoggedSite;
use crate::{
    limits::{Busy, Throttled},
    sites::directory::Unreadable,
};

/// The `Retry-After` value, in seconds, if a running request must end first: searches take a fraction of a second, and
/// a player has its next piece soon.
const BUSY_RETRY: u32 = 2;

/// The `Retry-After` value, in seconds, while the database is unreachable: the relay tries to reach it once a second.
const UNREADABLE_RETRY: u32 = 10;

/// An error for a public client, before the id of the request is added.
#[derive(Debug)]
pub(super) struct HttpError {
    problem: Problem,
    /// For the log.
    site: Option<SiteId>,
    /// Why the site cannot be asked, if that is the error.
    absence: Option<Absence>,
    /// Whether the response asks for a search token.
    wants_token: bool,
}

/// Why a site cannot be asked. Unauthenticated clients do not learn this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// No site has that name.
    Unknown,
    /// The operator of the relay has disabled the site.
    Disabled,
    /// No agent of the site is connected.
    Offline,
}

impl HttpError {
    pub(super) fn new(status: StatusCode, detail: &str) -> Self {
        Problem::new(status, detail).into()
    }

    /// The single error for a search without a correct token. It does not reveal whether the site exists.
    pub(super) fn unproven() -> Self {
        let detail = "the search token is wrong for this site, the site does not exist, or none of its agents is \
                      connected; check address and token in QueueMetrics, then the agent";
        Self { wants_token: true, ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    /// The single error for a link that no connected agent has made, whether the site exists or not.
    pub(super) fn no_agent_for_link() -> Self {
        let detail = "no connected agent can open this link: its agent was restarted, or its site is not connected; \
                      search again for a new link";
        Self::new(StatusCode::GONE, detail)
    }

    pub(super) fn unknown_site() -> Self {
        Self { absence: Some(Absence::Unknown), ..Self::new(StatusCode::NOT_FOUND, "there is no such site") }
    }

    pub(super) fn disabled() -> Self {
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this site is disabled by the relay's operator");
        Self { absence: Some(Absence::Disabled), ..problem.retry_after(300).into() }
    }

    pub(super) fn offline() -> Self {
        let problem = Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the site is not connected; check its agent, then try again",
        );
        Self { absence: Some(Absence::Offline), ..problem.retry_after(10).into() }
    }

    /// Why the site cannot be asked, if that is the error.
    pub(super) fn absence(&self) -> Option<Absence> {
        self.absence
    }

    /// The site that the request was for, if known.
    pub(super) fn site(&self) -> Option<&SiteId> {
        self.site.as_ref()
    }

    /// Sets the site that the request was for.
    pub(super) fn at(self, site: &SiteId) -> Self {
        Self { site: Some(site.clone()), ..self }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn into_response(self, extensions: &Extensions) -> Response {
        let id = extensions.get::<RequestId>().map_or("", |id| id.0.as_str());
        let mut response = self.problem.for_request(id).into_response().map(Body::from);
        if self.wants_token {
            // Required by RFC 9110, section 15.5.2; agents use the same scheme.
            let challenge = HeaderValue::from_static("SearchToken realm=\"audiovault\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(site) = self.site {
            response.extensions_mut().insert(LoggedSite(site));
        }
        response
    }
}

impl From<Problem> for HttpError {
    fn from(problem: Problem) -> Self {
        Self { problem, site: None, absence: None, wants_token: false }
    }
}

impl From<Busy> for HttpError {
    fn from(busy: Busy) -> Self {
        let status = match busy {
            Busy::Client | Busy::Share => StatusCode::TOO_MANY_REQUESTS,
            Busy::Site => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, busy.to_string()).retry_after(BUSY_RETRY).into()
    }
}

impl From<Unreadable> for HttpError {
    fn from(unreadable: Unreadable) -> Self {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, unreadable.to_string());
        problem.retry_after(UNREADABLE_RETRY).into()
    }
}

impl From<Throttled> for HttpError {
    fn from(throttled: Throttled) -> Self {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, throttled.to_string());
        problem.retry_after(seconds(throttled.retry_after())).into()
    }
}

/// The duration in seconds, rounded up, at least one.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
