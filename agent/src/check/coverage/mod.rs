//! Coverage: the share of answered calls in a queue_log for which a search finds a recording, and the reasons for the
//! others.

pub mod picture;
pub mod queue_log;
pub mod search;
pub mod tally;
