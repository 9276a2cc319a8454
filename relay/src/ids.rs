//! Random names for requests and sessions.

use data_encoding::HEXLOWER;
use http::HeaderName;

/// Carries a request's id to the asker.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Sixteen hexadecimal digits: 64 random bits, which no relay repeats in a century of logs.
pub fn random_id() -> String {
    HEXLOWER.encode(&rand::random::<[u8; 8]>())
}
