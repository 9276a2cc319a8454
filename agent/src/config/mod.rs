//! Configuration: raw arguments become checked settings once, and nothing is checked again afterwards.

pub mod args;
pub mod ask_args;
pub mod audit_args;
pub mod audit_log_args;
pub mod cdr_args;
pub mod check;
pub mod dialect_args;
pub mod error;
pub mod index_args;
pub mod install;
pub mod limits;
pub mod network;
pub mod settings;
