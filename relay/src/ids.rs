//! Random names for requests and sessions.

use data_encoding::HEXLOWER;

/// Sixteen hexadecimal digits: 64 random bits, which no relay repeats in a century of logs.
pub fn random_id() -> String {
    HEXLOWER.encode(&rand::random::<[u8; 8]>())
}
