//! What travels beside an HTTP request and its response inside one program: `http` extensions by which the link
//! and the agent's service talk to each other without knowing each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The id under which the logs of relay and agent speak of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The address beneath which links for this asker are made, without a slash at the end: `<base>/<site>` behind a
/// relay, the public address of a classic AudioVault. Set on requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkBase(pub Arc<str>);

/// How long the asker will wait for the response head. Set on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Duration);

/// The way back to the asker. Whoever drops a body before its end can tell by it whether the asker has gone or the way
/// itself broke. Set on requests; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Lifeline(Arc<AtomicBool>);

impl Lifeline {
    /// The way broke: what is given up from now on is not the asker's doing.
    pub fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the way broke.
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Who asked, as far as the relay knows. Set on requests; for the agent's own audit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Network address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its `User-Agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// What an audit event should say of a response. Set on responses by the agent's service; the relay records it
/// and never passes it on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The call that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The tenant on whose behalf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The QueueMetrics user, where the request named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The recording's file name with the digits of telephone numbers masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Octets that stand for one second of sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u32>,
    /// How many recordings a search found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<u32>,
}
