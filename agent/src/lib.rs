//! The AudioVault agent: finds call recordings on this machine's disks and serves them.

pub mod about;
pub mod access;
pub mod agent;
pub mod cdr;
pub mod cli;
pub mod config;
pub mod coverage;
pub mod deny;
pub mod dialect;
pub mod install;
pub mod limits;
pub mod links;
pub mod logging;
pub mod monitor;
pub mod preflight;
pub mod problems;
pub mod reach;
pub mod record;
pub mod report;
pub mod rough;
pub mod secret;
pub mod serve;
pub mod service;
pub mod sound;
pub mod stamp;
pub mod state;
pub mod systemd;
pub mod tenants;
#[cfg(test)]
mod testing;
mod throttle;
pub mod tunnel;
pub mod vault;
