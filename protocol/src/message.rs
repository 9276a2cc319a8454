//! The JSON payloads of frames. Unknown fields are ignored everywhere: that is how the protocol grows.

mod bounds;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use serde::{Deserialize, Serialize};

use crate::{
    context::{Audit, Client, Deadline, RequestId},
    headers,
    signed_link::LinkKeyId,
};

pub use self::bounds::{
    MAX_DRIVERS, MAX_HOST_LEN, MAX_INSTANCE_LEN, MAX_OS_LEN, MAX_PATTERN_LEN, MAX_PROBLEM_LEN,
    MAX_TENANT_LEN, MAX_TENANTS_LEN, MAX_VERSION_LEN,
};

/// The WebSocket subprotocol that names this version (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "audiovault-tunnel.v1";

/// Most names that an agent may give to the token of a search: four are known anyway, and a dialect has one or two more.
pub const MAX_TOKEN_FIELDS: usize = 16;
/// Longest name of a field for the token, in bytes. Names of fields that people choose have a few words.
pub const MAX_TOKEN_FIELD_LEN: usize = 64;

/// Most sentences about its configuration in an agent's STATUS: an agent has a handful of things to warn of.
pub const MAX_STATUS_PROBLEMS: usize = 4;
/// Longest of these sentences in bytes: two lines of a page.
pub const MAX_STATUS_PROBLEM_LEN: usize = 256;

/// HELLO: the agent introduces itself. The first frame on every tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the agent program.
    pub agent_version: String,
    /// Drawn at random once per run of the agent: 16 hexadecimal digits.
    pub instance: String,
    /// Which of the agent's connections to this relay this is, from 0.
    #[serde(default)]
    pub slot: u16,
    /// The secret behind this agent's links; links that name it should come here.
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
    /// Tenants that the agent serves: information, never routing.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Most streams that the agent will serve at a time.
    pub max_streams: u32,
    /// Whether the agent finishes what is open on an earlier tunnel of the same instance and slot. Otherwise it has given
    /// that tunnel up, even if the relay has not noticed yet.
    #[serde(default)]
    pub drains: bool,
    /// The names under which this agent takes a search's token, at most [`MAX_TOKEN_FIELDS`]. By them the relay counts wrong
    /// tokens. Empty for agents that do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_fields: Vec<String>,
}

impl Hello {
    /// The names of the token, where the agent tells them within their bounds.
    pub fn told_token_fields(&self) -> Option<&[String]> {
        let fits = |name: &String| name.len() <= MAX_TOKEN_FIELD_LEN;
        let told = (1..=MAX_TOKEN_FIELDS).contains(&self.token_fields.len());
        (told && self.token_fields.iter().all(fits)).then_some(&self.token_fields[..])
    }
}

/// WELCOME: the relay answers HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version of the relay program.
    pub relay_version: String,
    /// Names this session in both logs.
    pub session: String,
    /// Links for this site are made beneath this address; no slash at the end.
    pub base_url: String,
    /// Credit that every stream has from the start, in octets.
    pub initial_window: u32,
    /// Most streams that the relay will open at a time.
    pub max_streams: u32,
    /// Silence after which the relay pings, in milliseconds.
    pub ping_after_ms: u64,
    /// Silence after which the relay gives the agent up, in milliseconds.
    pub dead_after_ms: u64,
}

/// GOAWAY: the sender will go. From a relay: no new streams come, dial again within the window. From an agent:
/// open no new streams here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goaway {
    /// One sentence for the log.
    pub reason: String,
    /// The agent dials again at a random moment between these, in milliseconds from now.
    pub reconnect_after_ms: [u64; 2],
}

/// STATUS: how the agent's recordings are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Every storage driver, in order of search.
    #[serde(default)]
    pub drivers: Vec<DriverStatus>,
    /// What the relay's operator should know of the agent itself, in sentences: at most [`MAX_STATUS_PROBLEMS`], of at most
    /// [`MAX_STATUS_PROBLEM_LEN`] bytes.
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
    /// What is wrong, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How many recordings lie beneath the root, as last counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recordings: Option<u64>,
    /// When the newest of them was last written to, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<u64>,
}

/// The head of a REQUEST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    /// The id under which both logs speak of this request.
    pub request_id: String,
    /// HTTP method.
    pub method: String,
    /// Path and query, starting with a slash.
    pub target: String,
    /// Headers by allow-list; see [`crate::headers`].
    #[serde(with = "crate::headers::request")]
    pub headers: HeaderMap,
    /// How long the relay will wait for RESPONSE, in milliseconds.
    pub deadline_ms: u32,
    /// Who asked.
    #[serde(default)]
    pub client: Client,
}

impl RequestHead {
    /// The head of a request, with what its extensions [`RequestId`] and [`Client`] tell, and how long the asker will wait.
    pub fn of(request: &Request<Bytes>, deadline: Duration) -> Self {
        let (uri, extensions) = (request.uri(), request.extensions());
        Self {
            request_id: extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
            method: request.method().as_str().to_owned(),
            target: uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned(),
            headers: headers::of_request(request.headers()),
            deadline_ms: u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX),
            client: extensions.get::<Client>().cloned().unwrap_or_default(),
        }
    }

    /// The request that has this head, with the extensions [`RequestId`], [`Client`] and [`Deadline`]; none where method or
    /// target are no HTTP.
    pub fn into_request(self, body: Bytes) -> Option<Request<Bytes>> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = self.target.parse::<Uri>().ok().filter(|_| self.target.starts_with('/'))?;
        *request.headers_mut() = self.headers;
        let extensions = request.extensions_mut();
        extensions.insert(RequestId(self.request_id));
        extensions.insert(Deadline(Duration::from_millis(self.deadline_ms.into())));
        extensions.insert(self.client);
        Some(request)
    }
}

/// The head of a RESPONSE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// HTTP status code.
    pub status: u16,
    /// Headers by allow-list; see [`crate::headers`].
    #[serde(with = "crate::headers::response")]
    pub headers: HeaderMap,
    /// For the relay's audit; never passed on.
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
    /// 3: the agent has no room for another stream; nothing was done.
    Refused,
    /// 4: the recording could not be read to its end.
    ReadFailed,
    /// 5: no progress for [`crate::limits::STALL_TIMEOUT`], or for [`crate::limits::PAUSE_TIMEOUT`] without credit.
    Stalled,
    /// 6: the request or response could not be expressed or understood.
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

/// Why a tunnel ended: the code of a WebSocket close frame (RFC 6455, section 7.4; 4000 and up are ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: all is done.
    Normal,
    /// 1001: the sender is shutting down and has drained.
    GoingAway,
    /// 1002: what came breaks the rules of WebSocket.
    WebSocketViolation,
    /// 1003: a text message came.
    UnsupportedData,
    /// 1007: a text came that is not UTF-8.
    InvalidPayload,
    /// 1009: a message is too long.
    TooBig,
    /// 4000: the peer broke the protocol of frames.
    ProtocolViolation,
    /// 4001: the agent sent more than its credit.
    CreditExceeded,
    /// 4002: the site or its key was disabled or removed.
    Revoked,
    /// 4003: a new tunnel of the same agent has taken the place of this one, which the agent has given up.
    Replaced,
    /// 4004: HELLO or WELCOME did not come in time.
    NoGreeting,
    /// 4005: nothing was heard from the peer for too long.
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
