//! The base of the end-to-end tests and of the demo: real programs as processes, on addresses of their own, observed
//! through their logs.

#![expect(clippy::expect_used, reason = "a failed assumption of a test is a failed test")]

pub mod address;
pub mod agent;
pub mod agent_audit_log;
pub mod authority;
pub mod bad_link;
pub mod bare_root;
pub mod browser;
pub mod certificate;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod engine;
pub mod fleet;
pub mod haproxy;
pub mod machine;
pub mod mariadb;
pub mod matrix;
pub mod median;
pub mod middlebox;
pub mod mounted;
pub mod names;
mod namespaces;
pub mod network;
pub mod nginx;
pub mod operator;
pub mod pebble;
pub mod postgres;
pub mod preflight;
pub mod process;
pub mod proxy_server;
pub mod raw_peer;
pub mod recovery;
pub mod relay;
pub mod secrets;
pub mod slow;
pub mod small_disk;
pub mod stalling;
pub mod usage;
pub mod wan_link;

pub use samples as recordings;
