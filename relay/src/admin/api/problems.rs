//! How errors look in the description of the API.

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// What went wrong (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// HTTP status code.
    pub status: u16,
    /// The status code's own phrase.
    pub title: String,
    /// One sentence: who is to blame and what to do.
    pub detail: String,
    /// The id under which the log tells the rest.
    pub request_id: String,
}

/// The errors that every part of the API may answer with.
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
    /// There is no such thing, or none that the token may see
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemBody),
    /// The change does not fit to what is there
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemBody),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemBody),
    /// The body is not JSON
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(#[to_schema] ProblemBody),
    /// The body holds something else than described
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(#[to_schema] ProblemBody),
    /// The relay cannot answer now; try again
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemBody),
}
