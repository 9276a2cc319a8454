//! The content of the audit log: one event is one line of JSON.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Characters of outside text that are kept. Names, agents and ids are shorter, and this bounds the size of a line.
const MAX_TEXT_LEN: usize = 256;

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A client asked for the recordings of a call.
    Search,
    /// A client asked for a recording.
    Delivery,
    /// A delivery has begun; its end has a line of its own.
    Begun,
}

impl Kind {
    /// Its word in the audit log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Delivery => "delivery",
            Self::Begun => "begun",
        }
    }
}

/// How a request ended. The words are the same as in the relay's audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that was requested was handed over.
    Complete,
    /// The client went away before the end.
    Left,
    /// The tunnel, the disk or the end of the agent cut it.
    Cut,
    /// The response was an error.
    Refused,
    /// The deny list removed all or some of it.
    Denied,
}

impl Outcome {
    /// Its word in the audit log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Left => "left",
            Self::Cut => "cut",
            Self::Refused => "refused",
            Self::Denied => "denied",
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One search, one delivery, or the beginning of a delivery.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When the request came.
    #[serde(serialize_with = "milliseconds")]
    pub time: Timestamp,
    /// Search or delivery.
    pub kind: Kind,
    /// The id of the request in the logs of relay and agent.
    pub request_id: String,
    /// The id that the beginning and the end of a delivery share: the agent's run and a number. A request id would not
    /// do, since clients may choose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// The call that was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The tenant of the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The user of QueueMetrics, if the request named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The recording's file name, masked unless configured otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Network address of the client: the one that the relay gives, or the other end of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The client's `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// HTTP method.
    pub method: String,
    /// HTTP status of the response; `None` if there was no response any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The outcome, once it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How many recordings a search found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<u32>,
    /// The first byte that was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_start: Option<u64>,
    /// Bytes, from there on, that were handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets: Option<u64>,
    /// Size of the whole recording in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// From the request to the end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The error text of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A line about the audit log itself.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// `count` events before this line could not be written.
    Lost {
        /// When they could be counted.
        #[serde(serialize_with = "milliseconds")]
        time: Timestamp,
        /// The number of events.
        count: u64,
    },
    /// `count` lines about a call were erased before this line.
    Erased {
        /// When they were erased.
        #[serde(serialize_with = "milliseconds")]
        time: Timestamp,
        /// The number of lines.
        count: u64,
        /// The user of this machine who did it.
        by: String,
        /// The reason, if one was given.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// `count` requests that have no lines of their own: refused ones of unauthenticated clients, or repeats of one
    /// client.
    Suppressed {
        /// When they were counted.
        #[serde(serialize_with = "milliseconds")]
        time: Timestamp,
        /// When the count began.
        #[serde(serialize_with = "milliseconds")]
        since: Timestamp,
        /// The number of requests.
        count: u64,
        /// What one client repeated; the fields below describe it, as in the lines of events. `None` for
        /// unauthenticated clients.
        #[serde(skip_serializing_if = "Option::is_none")]
        of: Option<Kind>,
        /// Network address of the client.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// The tenant of the requests.
        #[serde(skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// The call, if searches for it found something.
        #[serde(skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
        /// The recording's file name.
        #[serde(skip_serializing_if = "Option::is_none")]
        recording: Option<String>,
        /// The total number of bytes that were handed out.
        #[serde(skip_serializing_if = "Option::is_none")]
        octets: Option<u64>,
    },
}

impl Notice {
    /// `count` requests of unauthenticated clients were refused since `since`.
    pub fn of_unauthenticated(time: Timestamp, since: Timestamp, count: u64) -> Self {
        Self::Suppressed {
            time,
            since,
            count,
            of: None,
            client: None,
            tenant: None,
            call_id: None,
            recording: None,
            octets: None,
        }
    }
}

impl Event {
    /// An event that has just begun.
    pub fn new(kind: Kind, method: &str, request_id: &str) -> Self {
        Self {
            time: Timestamp::now(),
            kind,
            request_id: bounded(request_id),
            delivery: None,
            call_id: None,
            tenant: None,
            user: None,
            recording: None,
            client: None,
            user_agent: None,
            method: bounded(method),
            status: None,
            outcome: None,
            found: None,
            range_start: None,
            octets: None,
            size: None,
            duration_ms: None,
            problem: None,
        }
    }
}

/// Serializes one object as one line, with its line end.
pub fn line(what: &impl Serialize) -> String {
    // Texts and numbers always become JSON, in which every line break is escaped (RFC 8259, section 7).
    let mut line = serde_json::to_string(what).unwrap_or_else(|_| "{}".to_owned());
    line.push('\n');
    line
}

/// Cuts a text from outside to the length that is kept.
pub(crate) fn bounded(text: &str) -> String {
    text.chars().take(MAX_TEXT_LEN).collect()
}

/// RFC 3339 in UTC, in milliseconds.
fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_says_what_is_known_and_nothing_else() {
        let mut event = Event::new(Kind::Delivery, "GET", "r-1");
        event.time = "2026-03-26T10:15:02.0015Z".parse().unwrap();
        (event.status, event.octets, event.outcome) = (Some(206), Some(200), Some(Outcome::Complete));
        event.duration_ms = Some(0);
        assert_eq!(
            line(&event),
            "{\"time\":\"2026-03-26T10:15:02.001Z\",\"kind\":\"delivery\",\"request_id\":\"r-1\",\"method\":\"GET\",\
             \"status\":206,\"outcome\":\"complete\",\"octets\":200,\"duration_ms\":0}\n"
        );
        let lost = Notice::Lost { time: event.time, count: 3 };
        assert_eq!(line(&lost), "{\"kind\":\"lost\",\"time\":\"2026-03-26T10:15:02.001Z\",\"count\":3}\n");
    }

    proptest! {
        #[test]
        fn every_event_is_one_line_of_valid_json(texts in prop::collection::vec(any::<String>(), 6), bytes in any::<u64>()) {
            let mut event = Event::new(Kind::Search, &texts[0], &texts[1]);
            event.user = Some(texts[2].clone());
            event.recording = Some(texts[3].clone());
            event.user_agent = Some(bounded(&texts[4]));
            event.problem = Some(texts[5].clone());
            event.octets = Some(bytes);
            let line = line(&event);
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["user"].as_str(), Some(texts[2].as_str()));
            prop_assert_eq!(read["octets"].as_u64(), Some(bytes));
        }
    }
}
