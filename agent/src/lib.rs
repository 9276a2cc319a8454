//! The AudioVault agent: finds call recordings on this machine's disks and serves them.

pub mod access;
pub mod links;
pub mod monitor;
pub mod secret;
pub mod service;
pub mod state;
pub mod tenants;
#[cfg(test)]
mod testing;
pub mod tunnel;
pub mod vault;
