//! The audit log and the operators' events: written, exported, and deleted after their time.

pub mod csv;
pub mod export;
pub mod journal;
pub mod operator_events_export;
pub mod retention;
