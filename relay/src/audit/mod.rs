//! The audit log and the operators' events: how they are written, exported, and deleted at the end of their
//! retention.

pub mod export;
pub mod journal;
pub mod retention;
