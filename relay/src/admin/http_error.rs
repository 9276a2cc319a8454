//! Errors for operators: a page for browsers, problem details for programs.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::{
    admin::auth::{PasswordError, Principal},
    model::{name::Name, operator_events::Actor, rights::Permission},
    store::StoreError,
};

/// Why a request failed. It is rendered later, where the client is known: as a page in the client's language, or as
/// problem details (RFC 9457) under `/api/`.
#[derive(Debug, Clone)]
pub struct HttpError {
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl HttpError {
    /// An error with one sentence for users of the API: who is to blame and what to do.
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    /// The address does not exist, or this principal may not see what is there.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this address")
    }

    /// The request has no valid credential.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "log in, or send a valid API token as Authorization: Bearer; `audiovault-relay token add` creates one",
        )
    }

    /// The credential is valid, but the role does not allow this.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "your role does not allow this; ask an admin of this relay")
    }

    /// The request has a value that is not accepted.
    pub fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// This relay is to blame; its log says why.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error of the relay; see its log")
    }

    /// Sets after how long the client may try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<StoreError> for HttpError {
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
                tracing::error!(
                    %error,
                    cause = error.cause(),
                    code = "operator_request.failed",
                    "an operator's request failed"
                );
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer; try again")
                    .retry_after(Duration::from_secs(5));
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<PasswordError> for HttpError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                .retry_after(Duration::from_secs(1)),
            PasswordError::Failed => {
                tracing::error!(%error, code = "login.hash_failed", "cannot hash a password");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for HttpError {
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
    /// Checks that the principal's role allows this.
    ///
    /// # Errors
    /// [`HttpError::forbidden`].
    pub fn require(&self, permission: Permission) -> Result<(), HttpError> {
        if self.may(permission) { Ok(()) } else { Err(HttpError::forbidden()) }
    }

    /// Checks that the principal may manage users and API tokens. Returns it as the actor of a change.
    ///
    /// # Errors
    /// [`HttpError::forbidden`].
    pub(crate) fn manager(&self) -> Result<Actor, HttpError> {
        self.require(Permission::ManageUsers)?;
        Ok(self.actor())
    }
}

/// Parses the name of a user or token in an address. Text that cannot be a name gives 404, like an unknown name.
pub(crate) fn known_name(text: &str) -> Result<Name, HttpError> {
    text.parse().map_err(|_| HttpError::not_found())
}
