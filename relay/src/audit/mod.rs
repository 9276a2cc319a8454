//! The audit log and the operators' events: how they are written, exported, and deleted at the end of their
//! retention.

pub mod csv;
pub mod export;
pub mod journal;
pub mod operator_events_export;
pub mod retention;
