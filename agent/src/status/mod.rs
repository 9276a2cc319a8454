//! What is wrong with the agent, and how it is, for those who ask.

pub mod duration;
pub mod problems;
pub mod state;
