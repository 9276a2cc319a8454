//! Sends a request to one of a site's agents, here or at another relay.

pub mod answer_body;
pub mod ask;
pub mod router;
