//! What the relay knows about every public request before it is routed.

use std::net::IpAddr;

use audiovault_common::request_id::new_id;
use audiovault_protocol::{
    admission::connection::Connection,
    http::{context::Client, headers},
    message::RequestHead,
};
use http::{HeaderMap, request::Parts};

use crate::limits::ClientKey;

/// A public request, apart from what is in it.
#[derive(Debug)]
pub(super) struct RequestContext {
    /// Its id in the logs of relay and agent.
    pub(super) id: String,
    /// The address of the client, as its connection or a trusted proxy names it.
    pub(super) address: IpAddr,
    /// The client, as agents and the audit log get it.
    pub(super) client: Client,
    /// The connection on which it came.
    pub(super) connection: Connection,
}

impl RequestContext {
    /// The context of a request that has just come from this address.
    pub(super) fn new(address: IpAddr, headers: &HeaderMap, connection: Connection) -> Self {
        Self { id: new_id(), address, client: Client::new(address, headers), connection }
    }

    /// The client, as the key for limits.
    pub(super) fn client_key(&self) -> ClientKey {
        self.address.into()
    }

    /// The head of this request for an agent. `target` is the path and query that the agent's own service expects.
    pub(super) fn head_for_agent(&self, parts: &Parts, target: String) -> RequestHead {
        RequestHead {
            request_id: self.id.clone(),
            method: parts.method.as_str().to_owned(),
            target,
            headers: headers::of_request(&parts.headers),
            deadline_ms: 0,
            client: self.client.clone(),
        }
    }
}
