//! The JSON payloads of frames.
//!
//! Unknown fields are ignored everywhere; later versions can add fields without breaking older peers.

mod bounds;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use serde::{Deserialize, Serialize};

use crate::{
    http::context::{Audit, Client},
    identity::signed_link::LinkKeyId,
};

pub use self::bounds::{
    MAX_DRIVERS, MAX_HOST_LEN, MAX_INSTANCE_LEN, MAX_OS_LEN, MAX_PATTERN_LEN, MAX_PROBLEM_LEN,
    MAX_TENANT_LEN, MAX_TENANTS_LEN, MAX_VERSION_LEN,
};

/// The WebSocket subprotocol that names this version (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "audiovault-tunnel.v1";

/// Most field names that an agent may declare for the token of a search: four are known anyway, and a dialect file has
/// one or two more.
pub const MAX_TOKEN_FIELDS: usize = 16;
/// Longest of these field names in bytes. Field names that people choose have a few words.
pub const MAX_TOKEN_FIELD_LEN: usize = 64;

/// Most sentences about its configuration in an agent's STATUS: an agent has a handful of warnings.
pub const MAX_STATUS_PROBLEMS: usize = 4;
/// Longest of these sentences in bytes: two lines of a page.
pub const MAX_STATUS_PROBLEM_LEN: usize = 256;

/// HELLO: the agent introduces itself. The first frame on every tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent program.
    pub agent_version: String,
    /// Drawn at random for each run of the agent: 16 hexadecimal digits.
    pub instance: String,
    /// Which of the agent's tunnels to this relay this is, from 0.
    #[serde(default)]
    pub slot: u16,
    /// Id of the link key of this agent. The relay should send requests for links that name it here.
    pub link_key_id: LinkKeyId,
    /// Host name of the machine.
    #[serde(default)]
    pub host: String,
    /// Operating system and architecture.
    #[serde(default)]
    pub os: String,
    /// When the agent was started, in seconds since the Unix epoch.
    #[serde(default)]
    pub started_at: u64,
    /// Tenants that the agent serves: for information, never for routing.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Most streams that the agent will serve at a time.
    pub max_streams: u32,
    /// Whether the agent finishes what is open on an earlier tunnel of the same instance and slot. If not, it has given
    /// that tunnel up, even if the relay has not noticed yet.
    #[serde(default)]
    pub drains: bool,
    /// Names of the fields in which this agent accepts the token of a search, at most [`MAX_TOKEN_FIELDS`]. The relay
    /// uses them to count wrong tokens. Empty if the agent does not declare them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_fields: Vec<String>,
}

impl Hello {
    /// The field names of the token, or `None` if the agent declares none or exceeds the limits.
    pub fn stated_token_fields(&self) -> Option<&[String]> {
        let fits = |name: &String| name.len() <= MAX_TOKEN_FIELD_LEN;
        let few = (1..=MAX_TOKEN_FIELDS).contains(&self.token_fields.len());
        (few && self.token_fields.iter().all(fits)).then_some(&self.token_fields[..])
    }
}

/// WELCOME: the relay answers HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version of the relay program.
    pub relay_version: String,
    /// Identifies this tunnel in both logs.
    pub session: String,
    /// Base URL of the links of this site; no slash at the end.
    pub base_url: String,
    /// Credit that every stream has from the start, in bytes.
    pub initial_window: u32,
    /// Most streams that the relay will open at a time.
    pub max_streams: u32,
    /// Silence after which the relay pings, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which the relay considers the agent dead, in milliseconds.
    pub dead_after_ms: u64,
}

/// GOAWAY: the sender is about to leave. From a relay: no new streams will be opened, dial again within the
/// window. From an agent: open no new streams on this tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goaway {
    /// One sentence for the log.
    pub reason: String,
    /// The agent dials again at a random moment between these two, in milliseconds from now.
    pub reconnect_after_ms: [u64; 2],
}

/// STATUS: the state of the agent's recordings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Every storage driver, in order of search.
    #[serde(default)]
    pub drivers: Vec<DriverStatus>,
    /// What the relay's operator should know about the agent itself, in sentences: at most [`MAX_STATUS_PROBLEMS`],
    /// each of at most [`MAX_STATUS_PROBLEM_LEN`] bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The health of one storage driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverStatus {
    /// The driver's pattern, as configured.
    pub pattern: String,
    /// Whether its root can be read now.
    pub readable: bool,
    /// What is wrong, if anything is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Number of recordings below the root, as last counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings: Option<u64>,
    /// When the newest of them was last written to, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
}

/// The head of a REQUEST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// The id of this request in both logs.
    pub request_id: String,
    /// HTTP method.
    pub method: String,
    /// Path and query, starting with a slash.
    pub target: String,
    /// Headers by allow-list; see [`crate::http::headers`].
    #[serde(with = "crate::http::headers::request")]
    pub headers: HeaderMap,
    /// How long the relay will wait for RESPONSE, in milliseconds.
    pub deadline_ms: u32,
    /// Who sent the request.
    #[serde(default)]
    pub client: Client,
}

/// A whole request for an agent: what a REQUEST carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRequest {
    /// Its head.
    pub head: RequestHead,
    /// Its body, at most [`crate::limits::MAX_REQUEST_BODY_LEN`] bytes.
    pub body: Bytes,
}

impl RequestHead {
    /// The HTTP request that has this head; `None` if method or target are not valid HTTP.
    pub fn into_request(self, body: Bytes) -> Option<Request<Bytes>> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = self.target.parse::<Uri>().ok().filter(|_| self.target.starts_with('/'))?;
        *request.headers_mut() = self.headers;
        Some(request)
    }
}

/// The head of a RESPONSE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// HTTP status code.
    pub status: u16,
    /// Headers by allow-list; see [`crate::http::headers`].
    #[serde(with = "crate::http::headers::response")]
    pub headers: HeaderMap,
    /// For the relay's audit log; never passed on to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
}

/// Why a stream was given up: the code of a RESET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetCode {
    /// 1: the client went away.
    Cancelled,
    /// 2: the deadline passed before RESPONSE.
    DeadlineExceeded,
    /// 3: the agent is leaving and refuses the stream; nothing was done.
    Refused,
    /// 4: the recording could not be read to its end.
    ReadFailed,
    /// 5: no progress for [`crate::limits::STALL_TIMEOUT`], or for [`crate::limits::PAUSE_TIMEOUT`] without credit.
    Stalled,
    /// 6: the request or response could not be encoded or understood.
    Malformed,
    /// Any other number, from a later version.
    Other(u16),
}

impl From<u16> for ResetCode {
    fn from(code: u16) -> Self {
        match code {
            1 => Self::Cancelled,
            2 => Self::DeadlineExceeded,
            3 => Self::Refused,
            4 => Self::ReadFailed,
            5 => Self::Stalled,
            6 => Self::Malformed,
            other => Self::Other(other),
        }
    }
}

impl From<ResetCode> for u16 {
    fn from(code: ResetCode) -> Self {
        match code {
            ResetCode::Cancelled => 1,
            ResetCode::DeadlineExceeded => 2,
            ResetCode::Refused => 3,
            ResetCode::ReadFailed => 4,
            ResetCode::Stalled => 5,
            ResetCode::Malformed => 6,
            ResetCode::Other(other) => other,
        }
    }
}

/// Why a tunnel ended: the code of a WebSocket close frame (RFC 6455, section 7.4; codes from 4000 on are of this
/// protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: everything is done.
    Normal,
    /// 1001: the sender is shutting down and has drained.
    GoingAway,
    /// 1002: the peer broke the rules of WebSocket.
    WebSocketViolation,
    /// 1003: a text message was received.
    UnsupportedData,
    /// 1007: a text was received that is not UTF-8.
    InvalidPayload,
    /// 1009: a message is too long.
    TooBig,
    /// 4000: the peer broke the rules of this protocol.
    ProtocolViolation,
    /// 4001: the agent sent more than its credit.
    CreditExceeded,
    /// 4002: the site or its key was disabled or removed.
    Revoked,
    /// 4003: a new tunnel of the same agent has replaced this one, which the agent has given up.
    Replaced,
    /// 4004: HELLO or WELCOME did not come in time.
    NoGreeting,
    /// 4005: nothing was received from the peer for too long.
    Silent,
    /// 4006: the site has as many tunnels or agents as it may have.
    TooManyTunnels,
    /// Any other number.
    Other(u16),
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        match code {
            1000 => Self::Normal,
            1001 => Self::GoingAway,
            1002 => Self::WebSocketViolation,
            1003 => Self::UnsupportedData,
            1007 => Self::InvalidPayload,
            1009 => Self::TooBig,
            4000 => Self::ProtocolViolation,
            4001 => Self::CreditExceeded,
            4002 => Self::Revoked,
            4003 => Self::Replaced,
            4004 => Self::NoGreeting,
            4005 => Self::Silent,
            4006 => Self::TooManyTunnels,
            other => Self::Other(other),
        }
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        match code {
            CloseCode::Normal => 1000,
            CloseCode::GoingAway => 1001,
            CloseCode::WebSocketViolation => 1002,
            CloseCode::UnsupportedData => 1003,
            CloseCode::InvalidPayload => 1007,
            CloseCode::TooBig => 1009,
            CloseCode::ProtocolViolation => 4000,
            CloseCode::CreditExceeded => 4001,
            CloseCode::Revoked => 4002,
            CloseCode::Replaced => 4003,
            CloseCode::NoGreeting => 4004,
            CloseCode::Silent => 4005,
            CloseCode::TooManyTunnels => 4006,
            CloseCode::Other(other) => other,
        }
    }
}
