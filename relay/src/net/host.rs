//! The host name that a request is for.

use audiovault_common::request_id::new_id;
use audiovault_protocol::http::problem::Problem;
use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, StatusCode, Uri, Version, header, uri::Authority};

/// What is wrong with the host in a request. If two names disagree, a proxy in front may have decided by the other
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// HTTP/1.1 without `Host` (RFC 9112, section 3.2).
    #[error("the request has no Host header; HTTP/1.1 requires one")]
    Missing,
    /// More than one `Host` (RFC 9112, section 3.2).
    #[error("the request has several Host headers; send one")]
    Several,
    /// A `Host` that is not a host name or address (RFC 9110, section 7.2).
    #[error("the Host header is not a host name or an address with an optional port")]
    Malformed,
    /// `:authority` and `Host` differ (RFC 9113, section 8.3.1).
    #[error("the Host header and :authority name different hosts")]
    Contradicting,
}

/// Checks the host in a request.
///
/// # Errors
/// [`HostError`]; the response has status 400.
pub fn check(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), HostError> {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let Some(host) = hosts.next() else {
        return if version == Version::HTTP_11 { Err(HostError::Missing) } else { Ok(()) };
    };
    if hosts.next().is_some() {
        return Err(HostError::Several);
    }
    let host =
        host.to_str().ok().filter(|host| !host.contains('@')).and_then(|host| host.parse::<Authority>().ok());
    let host = host.ok_or(HostError::Malformed)?;
    // In HTTP/1.1 an absolute target replaces Host; in HTTP/2 both must be the same.
    match uri.authority() {
        Some(authority) if version >= Version::HTTP_2 && *authority != host => Err(HostError::Contradicting),
        _ => Ok(()),
    }
}

/// Passes on requests with a valid host, and refuses others with status 400.
pub async fn require(request: Request, next: Next) -> Response {
    match check(request.version(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, error.to_string()).for_request(&new_id());
            problem.into_response().map(Body::from)
        }
    }
}

/// The host name in its simplest form: lower case, without port and without the dot of the root. It is in the target
/// of an HTTP/2 request (`:authority`) or of one in absolute form, which has priority (RFC 9112, section 3.2.2), and
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
    fn a_request_names_one_host_and_names_it_well() {
        let checked = |version, target: &str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            check(version, &target.parse().unwrap(), &headers)
        };
        for host in ["relay.example.com", "192.0.2.1:8080", "[2001:db8::1]:443"] {
            assert_eq!(checked(Version::HTTP_11, "/", &[host]), Ok(()), "{host}");
        }
        assert_eq!(checked(Version::HTTP_11, "/", &[]), Err(HostError::Missing));
        assert_eq!(checked(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, "/", &["a", "b"]), Err(HostError::Several));
        assert_eq!(checked(Version::HTTP_11, "/", &["a", "a"]), Err(HostError::Several));
        for host in ["", "a b", "a/b", "user@a", "a:b:c"] {
            assert_eq!(checked(Version::HTTP_11, "/", &[host]), Err(HostError::Malformed), "{host}");
        }
        let target = "https://a.example.com/search";
        assert_eq!(checked(Version::HTTP_2, target, &[]), Ok(()));
        assert_eq!(checked(Version::HTTP_2, target, &["A.example.com"]), Ok(()));
        assert_eq!(checked(Version::HTTP_2, target, &["b.example.com"]), Err(HostError::Contradicting));
        assert_eq!(checked(Version::HTTP_11, target, &["b.example.com"]), Ok(()), "the target replaces it");
    }

    #[test]
    fn a_host_has_one_spelling_in_the_header_and_in_the_target() {
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
