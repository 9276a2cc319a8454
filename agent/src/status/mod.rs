//! What is wrong with the agent, and how it is, for those who ask.

pub mod problems;
pub mod rough;
pub mod state;
