//! Which HTTP headers cross the tunnel, and how they are encoded.
//!
//! All other headers stay on their side: cookies, credentials and hop-by-hop headers of one side do not concern the
//! other.
//!
//! In the head of a frame, headers are an array of `[name, value]`. A header that is not allowed is neither written nor
//! read, so that no code path can let it cross.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{
    Deserialize, Deserializer, Serializer,
    de::{SeqAccess, Visitor},
    ser::SerializeSeq,
};

/// Request headers that go from relay to agent.
pub static REQUEST: [HeaderName; 8] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// Response headers that go from agent to relay. The headers that keep a recording private are not among them: the
/// relay sets them itself, regardless of what an agent sends.
pub static RESPONSE: [HeaderName; 9] = [
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
];

/// Only those headers of a request that may cross, so that the result is safe to log and to keep.
pub fn of_request(headers: &HeaderMap) -> HeaderMap {
    let mut allowed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| REQUEST.contains(name)) {
        allowed.append(name, value.clone());
    }
    allowed
}

/// The `headers` of a REQUEST in JSON.
pub mod request {
    use super::{Deserializer, HeaderMap, REQUEST, Serializer, read, write};

    /// Writes the headers that may cross.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(headers: &HeaderMap, to: S) -> Result<S::Ok, S::Error> {
        write(headers, &REQUEST, to)
    }

    /// Reads the headers that may cross.
    ///
    /// # Errors
    /// An error if the input is not an array of `[name, value]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
        read(from, &REQUEST)
    }
}

/// The `headers` of a RESPONSE or an ANSWER in JSON.
pub mod response {
    use super::{Deserializer, HeaderMap, RESPONSE, Serializer, read, write};

    /// Writes the headers that may cross.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(headers: &HeaderMap, to: S) -> Result<S::Ok, S::Error> {
        write(headers, &RESPONSE, to)
    }

    /// Reads the headers that may cross.
    ///
    /// # Errors
    /// An error if the input is not an array of `[name, value]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
        read(from, &RESPONSE)
    }
}

/// Leaves out values that are not visible ASCII (RFC 9110, section 5.5).
fn write<S: Serializer>(headers: &HeaderMap, allowed: &[HeaderName], to: S) -> Result<S::Ok, S::Error> {
    let mut pairs = to.serialize_seq(None)?;
    for (name, value) in headers.iter().filter(|(name, _)| allowed.contains(name)) {
        if let Ok(value) = value.to_str() {
            pairs.serialize_element(&(name.as_str(), value))?;
        }
    }
    pairs.end()
}

/// Keeps only headers that are allowed and well-formed, which are those that would be written: the peer may be hostile.
fn read<'de, D: Deserializer<'de>>(from: D, allowed: &'static [HeaderName]) -> Result<HeaderMap, D::Error> {
    from.deserialize_seq(Pairs { allowed })
}

struct Pairs {
    allowed: &'static [HeaderName],
}

#[derive(Deserialize)]
struct Pair<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Pairs {
    type Value = HeaderMap;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an array of [name, value]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<HeaderMap, A::Error> {
        let mut headers = HeaderMap::with_capacity(self.allowed.len());
        while let Some(Pair(name, value)) = pairs.next_element()? {
            let name = self.allowed.iter().find(|allowed| allowed.as_str().eq_ignore_ascii_case(&name));
            let value = HeaderValue::from_str(&value).ok().filter(|value| value.to_str().is_ok());
            if let (Some(name), Some(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        Ok(headers)
    }
}

/// The position of the first byte of a recording that a response carries, and the recording's whole size: from
/// `Content-Range` (RFC 9110, section 14.4), or from the length of a response with the whole recording.
pub fn extent(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return (Some(0), content_length(headers));
    };
    let text = value.to_str().unwrap_or_default();
    let parsed = text.strip_prefix("bytes ").and_then(|rest| {
        let (range, size) = rest.split_once('/')?;
        Some((range.split_once('-')?.0.parse().ok(), size.parse().ok()))
    });
    parsed.unwrap_or_default()
}

/// The length of a response's body, if it is given.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Headers of every response about a recording, errors included (RFC 9111, section 5.2.2; Referrer Policy; Fetch; Robots
/// Exclusion; CSP Level 3): it must not be stored, its address must not be passed on, its type must not be guessed, and it
/// must be neither indexed nor executed.
const PRIVACY: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")),
];

/// Makes a response about a recording private. The agent does so, and the relay again, no matter what the agent sends:
/// recordings stay with the client that asked for them.
pub fn make_private(headers: &mut HeaderMap) {
    for (name, value) in PRIVACY {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_headers_cross() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("secret"));
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        let mut written = Vec::new();
        request::serialize(&headers, &mut serde_json::Serializer::new(&mut written)).unwrap();
        assert_eq!(written, br#"[["range","bytes=0-1"]]"#);
        assert_eq!(of_request(&headers).len(), 1);
    }

    #[test]
    fn a_hostile_peer_cannot_smuggle_headers() {
        let wire =
            r#"[["set-cookie", "a=b"], ["content-type", "audio/wav\r\nset-cookie: a=b"], ["ETag", "\"1\""]]"#;
        let headers = response::deserialize(&mut serde_json::Deserializer::from_str(wire)).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[header::ETAG], "\"1\"");
    }

    #[test]
    fn a_value_that_would_not_be_written_is_not_read() {
        let wire = r#"[["etag", "\"\u00e9\""], ["content-type", "audio/wav"]]"#;
        let headers = response::deserialize(&mut serde_json::Deserializer::from_str(wire)).unwrap();
        assert_eq!(headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["content-type"]);
    }

    #[test]
    fn headers_that_are_no_pairs_are_refused() {
        for wire in ["[[\"etag\"]]", "[[\"etag\", 1]]", "{}", "[\"etag\"]", "[[\"etag\", \"1\", \"2\"]]"] {
            let read = response::deserialize(&mut serde_json::Deserializer::from_str(wire));
            assert!(read.is_err(), "{wire}");
        }
    }

    #[test]
    fn a_range_is_read_from_the_head_of_the_answer() {
        for (name, value, expected) in [
            (header::CONTENT_RANGE, "bytes 500-999/8000", (Some(500), Some(8000))),
            (header::CONTENT_RANGE, "bytes 500-999/*", (Some(500), None)),
            (header::CONTENT_RANGE, "lines 1-2/3", (None, None)),
            (header::CONTENT_LENGTH, "44", (Some(0), Some(44))),
        ] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(extent(&headers), expected, "{value}");
        }
    }
}
