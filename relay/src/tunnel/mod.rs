//! Agents that are connected: their sessions, and the registry of them.

pub mod registry;
pub mod session;
pub(crate) mod view;
