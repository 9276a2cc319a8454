//! Sends a request to one of a site's agents, through this relay or a peer relay.

pub mod dispatch;
pub mod router;
