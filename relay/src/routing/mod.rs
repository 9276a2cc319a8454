//! Sends a request to one of a site's agents, through this relay or a peer relay.

pub mod answer_body;
pub mod dispatch;
pub mod router;
