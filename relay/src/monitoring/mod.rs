//! What operators see of the relay: the board, alerts, metrics and uptime.

pub mod alerts;
pub mod board;
pub mod metrics;
pub mod site_detail;
