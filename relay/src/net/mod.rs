//! Listeners, and what is known about a connection and its client.

pub mod client;
pub mod host;
pub mod listen;
pub mod public_url;
