//! The sessions of connected agents, and the registry that holds them.

pub mod registry;
pub mod session;
pub(crate) mod view;
