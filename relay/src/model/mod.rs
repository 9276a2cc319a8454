//! The types that the database and everything above it share.

pub mod about;
pub mod audit;
pub mod ids;
pub mod name;
pub mod operator_events;
pub mod password_hash;
pub mod rights;
pub mod secret;
