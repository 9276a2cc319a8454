//! Which HTTP headers cross the tunnel. Everything else stays where it was said: cookies, credentials and hop
//! headers of one side are none of the other's business.

use http::{HeaderMap, HeaderName, HeaderValue, header};

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

/// Response headers that go from agent to relay.
pub static RESPONSE: [HeaderName; 14] = [
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::REFERRER_POLICY,
    header::RETRY_AFTER,
    header::X_CONTENT_TYPE_OPTIONS,
    HeaderName::from_static("x-robots-tag"),
];

/// Picks the allowed headers for the wire. Values that are not visible ASCII (RFC 9110, section 5.5) are left out.
pub fn to_wire(headers: &HeaderMap, allowed: &[HeaderName]) -> Vec<(String, String)> {
    let named = allowed.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    named
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// Reads headers from the wire, keeping the allowed and well-formed ones: the peer may be hostile.
pub fn from_wire(wire: &[(String, String)], allowed: &[HeaderName]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(wire.len());
    for (name, value) in wire {
        let name = allowed.iter().find(|allowed| allowed.as_str().eq_ignore_ascii_case(name));
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// The first octet of a recording that an answer has, and the recording's whole size: from `Content-Range` (RFC 9110, section 14.4) or from the length of a whole answer.
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

/// The length of an answer's body, where it is stated.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_headers_cross() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("secret"));
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(to_wire(&headers, &REQUEST), [("range".to_owned(), "bytes=0-1".to_owned())]);
    }

    #[test]
    fn a_hostile_peer_cannot_smuggle_headers() {
        let wire =
            [("set-cookie", "a=b"), ("content-type", "audio/wav\r\nset-cookie: a=b"), ("ETag", "\"1\"")];
        let wire = wire.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = from_wire(&wire, &RESPONSE);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[header::ETAG], "\"1\"");
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
