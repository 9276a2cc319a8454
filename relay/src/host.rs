//! The host name that a request is for.

use http::{HeaderMap, Uri, header, uri::Authority};

/// The name in its plainest spelling: lower case, without port and without the dot of the root. It stands in the
/// target of an HTTP/2 request (`:authority`) or of one in absolute form, which wins (RFC 9112, section 3.2.2), and
/// otherwise in `Host`.
pub fn of(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let named = uri.host().map(str::to_owned).or_else(|| {
        let host = headers.get(header::HOST)?.to_str().ok()?;
        Some(host.parse::<Authority>().ok()?.host().to_owned())
    })?;
    let plain = named.strip_suffix('.').unwrap_or(&named).to_ascii_lowercase();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn host(target: &str, header: Option<&'static str>) -> Option<String> {
        let headers = header.map(|host| (header::HOST, HeaderValue::from_static(host)));
        of(&target.parse().unwrap(), &headers.into_iter().collect())
    }

    #[test]
    fn a_host_has_one_spelling_wherever_it_stands() {
        let expected = Some("acme.example.com".to_owned());
        for spelling in
            ["acme.example.com", "ACME.Example.com", "acme.example.com:8443", "acme.example.com.:1"]
        {
            assert_eq!(host("/search", Some(spelling)), expected, "{spelling}");
            let absolute = format!("https://{spelling}/search");
            assert_eq!(host(&absolute, Some("other.example.com")), expected, "{absolute}");
        }
        assert_eq!(host("/", Some("[::1]:80")), Some("[::1]".to_owned()));
        for nothing in [None, Some(""), Some("."), Some("a b"), Some("a/b")] {
            assert_eq!(host("/", nothing), None, "{nothing:?}");
        }
    }
}
