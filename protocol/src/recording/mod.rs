//! Recordings: their call, their type, their name.

pub mod call;
pub mod media;
pub mod name;
