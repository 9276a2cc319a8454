//! Audit events: what was searched and what was delivered, when, and to which client.
//!
//! An event claims only what is known: the bytes that the operating system's socket took, not who listened.

use std::fmt;

pub use audiovault_protocol::recording::call::call_key;
use audiovault_protocol::{
    http::context::{Audit, Client},
    identity::site::SiteId,
    recording::call::NamedCall,
};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// The maximum number of characters that are kept of a text from outside. Names, user agents and ids are
/// shorter, and a row has a bounded size.
const MAX_TEXT_LEN: usize = 256;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A client asked which recordings a call has.
    Search,
    /// A client asked for a recording.
    Delivery,
    /// Requests with a wrong token or a forged link that have no events of their own: `found` is how many came
    /// from `opened` to `closed`.
    Suppressed,
}

/// How a request ended, or that it has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The delivery goes on, or its end is not known: at least `bytes` bytes were delivered.
    Open,
    /// Everything that was requested was handed over.
    Complete,
    /// The client disconnected before the end.
    Left,
    /// The tunnel or the agent failed before the end.
    Cut,
    /// The response was an error.
    Refused,
}

/// Gives an enumeration the names that it has in the database, the API and exports.
macro_rules! named {
    ($type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// The name in the database, the API and exports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::model::audit::UnknownName;

            fn from_str(text: &str) -> Result<Self, $crate::model::audit::UnknownName> {
                match text { $($name => Ok(Self::$variant),)+ _ => Err($crate::model::audit::UnknownName) }
            }
        }
    };
}
pub(crate) use named;

/// The text is not one of the names of the enumeration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this name is not known")]
pub struct UnknownName;

named!(Kind { Search => "search", Delivery => "delivery", Suppressed => "suppressed" });
named!(Outcome {
    Open => "open", Complete => "complete", Left => "left", Cut => "cut", Refused => "refused",
});

/// One search or one delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEvent {
    /// The id of the request in the logs of relay and agent.
    pub request_id: String,
    /// Search or delivery, or several requests that have no events of their own.
    pub kind: Kind,
    /// The site of the request.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// When the request came.
    pub opened: Timestamp,
    /// When it ended. Empty while it goes on, and for ever if the relay was killed before the end.
    pub closed: Option<Timestamp>,
    /// The tenant of the request.
    pub tenant: Option<String>,
    /// The call that was requested.
    pub call_id: Option<String>,
    /// The recording's file name, masked unless agent and relay are configured otherwise.
    pub recording: Option<String>,
    /// The user of QueueMetrics, if the request named one.
    pub user: Option<String>,
    /// Network address of the client, or its pseudonym (`~` and twelve hexadecimal digits).
    pub client: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
    /// HTTP status of the response.
    pub status: u16,
    /// How many recordings a search found, or how many requests were suppressed.
    pub found: Option<u32>,
    /// The first byte of the requested range.
    pub range_start: Option<u64>,
    /// The number of bytes, from there on, that the operating system's socket took.
    pub bytes: u64,
    /// Size of the whole recording in bytes.
    pub size: Option<u64>,
    /// The number of bytes in one second of sound.
    pub bytes_per_second: Option<u32>,
    /// How the request ended.
    pub outcome: Outcome,
    /// The run of the relay that received the request. Empty in events of releases that did not store it.
    #[serde(default)]
    pub run: Option<String>,
}

impl AuditEvent {
    /// An event that has just begun.
    pub fn new(kind: Kind, request_id: String, site: SiteId, client: &Client) -> Self {
        Self {
            request_id,
            kind,
            site,
            opened: Timestamp::now(),
            closed: None,
            tenant: None,
            call_id: None,
            recording: None,
            user: None,
            client: client.address.clone(),
            user_agent: client.user_agent.as_deref().map(bounded),
            status: 0,
            found: None,
            range_start: None,
            bytes: 0,
            size: None,
            bytes_per_second: None,
            outcome: Outcome::Open,
            run: None,
        }
    }

    /// The event for `count` requests that have no events of their own.
    pub fn suppressed(request_id: String, site: SiteId, since: Timestamp, count: u64) -> Self {
        let mut event = Self::new(Kind::Suppressed, request_id, site, &Client::default());
        event.opened = since;
        event.found = Some(u32::try_from(count).unwrap_or(u32::MAX));
        event.close(0, Outcome::Refused);
        event
    }

    /// Adds the agent's description of its response.
    pub fn describe(&mut self, audit: &Audit) {
        let text = |value: &Option<String>| value.as_deref().map(bounded);
        self.tenant = text(&audit.tenant).or(self.tenant.take());
        self.call_id = text(&audit.call_id).or(self.call_id.take());
        self.recording = text(&audit.recording).or(self.recording.take());
        self.user = text(&audit.user).or(self.user.take());
        self.found = audit.found.or(self.found);
        self.bytes_per_second = audit.bytes_per_second.filter(|rate| *rate > 0).or(self.bytes_per_second);
    }

    /// Ends the event, with the status of its response.
    pub fn close(&mut self, status: u16, outcome: Outcome) {
        self.status = status;
        self.outcome = outcome;
        self.closed = Some(Timestamp::now());
    }

    /// The seconds of sound in the delivered bytes, if the agent knows the rate.
    pub fn seconds(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "a recording of 2^53 bytes lasts for millennia")]
        self.bytes_per_second.map(|rate| self.bytes as f64 / f64::from(rate))
    }
}

/// The key of the digests under which a database remembers erased calls. A call id is one of a few billion, and
/// all of them can be tried within a second: a digest without a key would reveal the id.
pub struct ErasureKey(Zeroizing<Vec<u8>>);

/// The digests of a call in the list of erased calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallDigests {
    /// For this call id alone.
    pub exact: String,
    /// For the call id without a server, on every server.
    pub anywhere: String,
}

impl fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasureKey")
    }
}

impl ErasureKey {
    /// The key with these bytes.
    pub fn new(key: Vec<u8>) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The digests of a call. An event of the call is not written if one of them is in the list of erased
    /// calls.
    pub fn digests(&self, call: &NamedCall) -> CallDigests {
        CallDigests {
            exact: self.digest("exact", call.key()),
            anywhere: self.digest("anywhere", call.bare()),
        }
    }

    /// The digests to store when a call is erased. A call id without a server is erased on every server. A call
    /// id with a server is also erased where it is named without one.
    pub fn erased(&self, call: &NamedCall) -> Vec<String> {
        if call.has_server() {
            vec![self.digest("exact", call.key()), self.digest("exact", call.bare())]
        } else {
            vec![self.digest("anywhere", call.bare())]
        }
    }

    fn digest(&self, which: &str, key: &str) -> String {
        // HMAC takes keys of any length (RFC 2104, section 2).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(which.as_bytes());
        mac.update(b":");
        mac.update(key.as_bytes());
        data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
    }
}

/// A text from outside in the form that is stored: without control characters, and at most [`MAX_TEXT_LEN`]
/// characters long.
pub(crate) fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> AuditEvent {
        let client = Client { address: Some("203.0.113.9".to_owned()), user_agent: Some("a\nb".repeat(300)) };
        AuditEvent::new(Kind::Delivery, "r1".to_owned(), SiteId::parse("acme").unwrap(), &client)
    }

    #[test]
    fn texts_from_outside_have_a_bound_and_no_line_breaks() {
        let agent = event().user_agent.unwrap();
        assert!(agent.chars().count() == MAX_TEXT_LEN && !agent.contains('\n'));
    }

    #[test]
    fn what_the_agent_says_adds_to_what_the_request_said() {
        let mut event = event();
        event.user = Some("robin".to_owned());
        let stated = Audit { call_id: Some("1.2".to_owned()), bytes_per_second: Some(0), ..Audit::default() };
        event.describe(&stated);
        assert_eq!((event.user.as_deref(), event.call_id.as_deref()), (Some("robin"), Some("1.2")));
        assert_eq!(event.seconds(), None, "a rate of zero gives no duration");
        event.describe(&Audit { bytes_per_second: Some(16_000), ..Audit::default() });
        event.bytes = 40_000;
        assert_eq!(event.seconds(), Some(2.5));
    }

    #[test]
    fn names_survive_the_way_to_the_database_and_back() {
        for outcome in [Outcome::Open, Outcome::Complete, Outcome::Left, Outcome::Cut, Outcome::Refused] {
            assert_eq!(outcome.as_str().parse(), Ok(outcome));
        }
        assert_eq!("nonsense".parse::<Kind>(), Err(UnknownName));
    }

    #[test]
    fn ids_are_compared_as_the_agent_compares_them() {
        assert_eq!(call_key(" PBX1-1711_17 "), call_key("pbx1-1711.17"));
    }

    #[test]
    fn an_erased_call_is_known_again_by_those_alone_who_have_the_key() {
        let key = ErasureKey::new(vec![7; 32]);
        let blocks = |erased: &str, event: &str| {
            let CallDigests { exact, anywhere } = key.digests(&NamedCall::new(event));
            let erased = key.erased(&NamedCall::new(erased));
            erased.contains(&exact) || erased.contains(&anywhere)
        };
        let bare = "1772705472.1";
        let first = "pbx1-1772705472.1";
        let second = "pbx2-1772705472_1";
        assert!(blocks(bare, bare) && blocks(bare, first) && blocks(bare, second));
        assert!(blocks(first, first) && blocks(first, bare) && !blocks(first, second));
        assert!(!blocks(bare, "1772705472.10"));
        let other = ErasureKey::new(vec![8; 32]);
        assert_ne!(key.erased(&NamedCall::new(bare)), other.erased(&NamedCall::new(bare)));
        assert_eq!(format!("{key:?}"), "ErasureKey");
    }
}
