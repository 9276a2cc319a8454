//! How many may come, and how often: connections, permits, wrong secrets.

#[cfg(feature = "link")]
pub mod connection;
pub mod gate;
pub mod slots;
pub mod strangers;
pub mod throttle;
