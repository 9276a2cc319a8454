//! What belongs to a request and its response beside HTTP: who asks, for how long, and what the audit log gets.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

/// What an agent's service knows of a request beside HTTP.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The id of the request in the logs of relay and agent.
    pub id: String,
    /// Who asks.
    pub client: Client,
    /// The base URL of links for this client, without a slash at the end: `<base>/<site>` behind a relay, or the public
    /// address of a classic AudioVault.
    pub base: Arc<str>,
    /// How long the sender of the request will wait for the response head.
    pub deadline: Duration,
    /// The path back to the client.
    pub lifeline: Lifeline,
}

/// State of the path back to the client. When a body is dropped before its end, this shows whether the client has gone
/// or the path itself broke. All clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Lifeline(Arc<AtomicBool>);

impl Lifeline {
    /// Records that the path broke: bodies that are given up from now on are not the client's doing.
    pub fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// True if the path broke.
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The client, as far as it is known; for the agent's own audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Network address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The client's `User-Agent` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Client {
    /// The client at this address, with the user agent of its request.
    pub fn new(address: IpAddr, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Self { address: Some(address.to_string()), user_agent: user_agent.map(str::to_owned) }
    }
}

/// What the audit log should say about a response. The agent's service says it. The relay writes it to its audit log and
/// never passes it on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The call that was searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The tenant for which the request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The QueueMetrics user, if the request named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The recording's file name with the digits of telephone numbers masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Number of bytes for one second of sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u32>,
    /// How many recordings a search found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<u32>,
}
