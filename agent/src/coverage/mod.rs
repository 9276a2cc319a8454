//! Coverage: for how many of the calls that a queue_log lists as answered a search finds a recording, and why not for
//! the others.

pub mod picture;
pub mod queue_log;
pub mod search;
pub mod tally;
