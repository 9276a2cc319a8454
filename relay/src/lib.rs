//! The AudioVault relay.

pub mod cli;
pub mod config;
pub mod directory;
pub mod listen;
pub mod logging;
pub mod store;
