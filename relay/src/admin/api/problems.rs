//! Schemas of the errors in the description of the API.

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// An error, as problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// HTTP status code.
    pub status: u16,
    /// The standard phrase of the status code.
    pub title: String,
    /// One sentence: who is to blame and what to do.
    pub detail: String,
    /// The id of the request. The relay's log has more about it under this id.
    pub request_id: String,
}

/// The errors that every operation of the API can return.
#[derive(Debug, IntoResponses)]
pub enum Failures {
    /// The request cannot be read
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemBody),
    /// No valid API token was sent
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemBody),
    /// The token's role does not allow this
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] ProblemBody),
    /// The object does not exist, or the token may not see it
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemBody),
    /// The change conflicts with the current state
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemBody),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemBody),
    /// The body is not JSON
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(#[to_schema] ProblemBody),
    /// The request has a field or a value that is not accepted
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(#[to_schema] ProblemBody),
    /// The relay cannot answer now; try again later
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemBody),
}
