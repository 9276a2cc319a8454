//! The AudioVault agent: finds call recordings on this machine's disks and serves them.

pub mod app;
pub mod audio;
pub mod audit;
pub mod auth;
pub mod check;
pub mod cli;
pub mod config;
pub mod http;
pub mod install;
pub mod limits;
pub mod net;
pub mod status;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod tunnel;
