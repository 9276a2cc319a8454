//! The AudioVault relay.

pub mod admin;
pub mod alerts;
pub mod audit;
pub mod board;
pub mod cli;
pub mod client;
pub mod config;
pub mod data_commands;
pub mod directory;
pub mod health;
pub mod http;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod listen;
pub mod listeners;
pub mod logging;
pub mod metrics;
pub mod provisioning;
pub mod queuemetrics;
pub mod registry;
pub mod relay;
pub mod session;
pub mod site_commands;
pub mod store;
