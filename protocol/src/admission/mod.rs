//! How many may come, and how often: connections, permits, wrong secrets.

#[cfg(feature = "link")]
pub mod connection;
pub mod gate;
pub mod semaphore;
pub mod throttle;
pub mod unauthenticated;
