//! The errors of the public routes.

use std::time::Duration;

use audiovault_common::http_error::HttpError;
use http::StatusCode;

use crate::{
    limits::{Busy, Throttled},
    sites::directory::Unreadable,
};

/// When to retry if a running request must end first: searches take a fraction of a second, and a player has its next
/// piece soon.
const BUSY_RETRY: Duration = Duration::from_secs(2);
/// When to retry while the database is unreachable: the relay tries to reach it once a second.
const UNREADABLE_RETRY: Duration = Duration::from_secs(10);
/// When to retry while a site is disabled.
const DISABLED_RETRY: Duration = Duration::from_secs(300);
/// When to retry while no agent of a site is connected.
const OFFLINE_RETRY: Duration = Duration::from_secs(10);

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

impl From<Absence> for HttpError {
    fn from(absence: Absence) -> Self {
        match absence {
            Absence::Unknown => Self::new(StatusCode::NOT_FOUND, "there is no such site"),
            Absence::Disabled => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "this site is disabled by the relay's operator")
                    .retry_after(DISABLED_RETRY)
            }
            Absence::Offline => {
                let detail = "the site is not connected; check its agent, then try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(OFFLINE_RETRY)
            }
        }
    }
}

/// The single error for a search without a correct token. It does not reveal whether the site exists.
pub(super) fn unproven() -> HttpError {
    HttpError::wrong_token(
        "the search token is wrong for this site, the site does not exist, or none of its agents is connected; check \
         address and token in QueueMetrics, then the agent",
    )
}

/// The single error for a link that no connected agent has made, whether the site exists or not.
pub(super) fn no_agent_for_link() -> HttpError {
    let detail = "no connected agent can open this link: its agent was restarted, or its site is not connected; \
                  search again for a new link";
    HttpError::new(StatusCode::GONE, detail)
}

impl From<Busy> for HttpError {
    fn from(busy: Busy) -> Self {
        let status = match busy {
            Busy::Client | Busy::Share => StatusCode::TOO_MANY_REQUESTS,
            Busy::Site => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, busy.to_string()).retry_after(BUSY_RETRY)
    }
}

impl From<Unreadable> for HttpError {
    fn from(unreadable: Unreadable) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, unreadable.to_string()).retry_after(UNREADABLE_RETRY)
    }
}

impl From<Throttled> for HttpError {
    fn from(throttled: Throttled) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, throttled.to_string()).retry_after(throttled.retry_after())
    }
}
