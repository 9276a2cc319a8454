//! Coverage: of the calls that a queue_log says were answered, how many recordings a search finds, and why not the others.

pub mod picture;
pub mod queue_log;
pub mod search;
pub mod tally;
