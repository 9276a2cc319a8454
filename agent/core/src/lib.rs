//! The pure part of the AudioVault agent: the rules for what it reads from clients, admins and recordings.
//!
//! It does no input or output, reads no clock and draws no random numbers. Each module works alone on bytes and text, so
//! that a fuzzer can drive it.

pub mod call_id;
mod call_id_in_name;
pub mod conditions;
pub mod deny_rules;
pub mod expand;
pub mod gsm;
pub mod layout;
pub mod media;
pub mod pattern;
pub mod query;
pub mod range;
pub mod secret;
pub mod tenants;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tokens;
pub mod wav;
