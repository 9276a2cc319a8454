//! Errors for operators: a page for browsers, problem details for programs.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::{
    admin::auth::{PasswordError, Principal},
    model::{name::Name, operator_events::Actor, rights::Permission},
    store::StoreError,
};

/// Why a request is not answered as asked. It becomes its answer where it is known who asks: a page in their language,
/// or problem details (RFC 9457) beneath `/api/`.
#[derive(Debug, Clone)]
pub struct Refused {
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Refused {
    /// An error with one sentence for whoever uses the API: who is to blame and what to do.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    /// There is nothing here, or nothing that this principal may know of.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this address")
    }

    /// Nobody has said who they are.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "log in, or send a valid API token as Authorization: Bearer; `audiovault-relay token add` makes one",
        )
    }

    /// Known, but not allowed.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "your role does not allow this; ask an admin of this relay")
    }

    /// What was sent makes no sense.
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// This relay is to blame; the log tells why.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this relay has failed; its log tells why")
    }

    /// Says when to ask again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::UnknownSite(_)
            | StoreError::UnknownAlias { .. }
            | StoreError::UnknownKey { .. }
            | StoreError::UnknownUser(_)
            | StoreError::UnknownToken(_)
            | StoreError::CodeRefused
            | StoreError::SetupLinkEnded => StatusCode::NOT_FOUND,
            StoreError::NameTaken(_)
            | StoreError::NoValidKey(_)
            | StoreError::NoRoomForKey(_)
            | StoreError::SiteDisabled(_)
            | StoreError::UserExists(_)
            | StoreError::LastManager(_)
            | StoreError::TokenExists(_) => StatusCode::CONFLICT,
            StoreError::LogInUse => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Moved(_)
            | StoreError::Corrupt { .. }
            | StoreError::Damaged(_)
            | StoreError::Database(_) => {
                tracing::error!(%error, cause = error.cause(), "a request of an operator has failed");
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer; try again")
                    .retry_after(Duration::from_secs(5));
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<PasswordError> for Refused {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .retry_after(Duration::from_secs(1)),
            PasswordError::Failed => {
                tracing::error!(%error, "a password cannot be hashed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl Principal {
    /// Lets those on who may do that.
    ///
    /// # Errors
    /// [`Refused::forbidden`].
    pub fn require(&self, permission: Permission) -> Result<(), Refused> {
        if self.may(permission) { Ok(()) } else { Err(Refused::forbidden()) }
    }

    /// Somebody who may manage users and API tokens.
    ///
    /// # Errors
    /// [`Refused::forbidden`].
    pub(crate) fn manager(&self) -> Result<Actor, Refused> {
        self.require(Permission::ManageUsers)?;
        Ok(self.actor())
    }
}

/// The name of a user or token in an address: what cannot be one belongs to nobody.
pub(crate) fn known_name(text: &str) -> Result<Name, Refused> {
    text.parse().map_err(|_| Refused::not_found())
}
