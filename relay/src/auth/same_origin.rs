//! Keeps other sites from using a browser's session: requests that change something must come from our own pages.
//!
//! Two walls, each enough alone: the browser's word about where a request comes from, and a token that only our pages
//! hold. Requests with an API token need neither, since no browser adds one by itself.

use http::{HeaderMap, HeaderName, Uri, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Secret;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a browser says that a request comes from a page of the host it goes to. `Sec-Fetch-Site` is trusted where it
/// is sent (over TLS and to loopback), otherwise `Origin` has to name our own host. What says nothing is refused.
pub fn is_same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // HTTP/2 puts the host into the address itself.
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// The token that every form of a session carries. It follows from the session's secret, so nobody else can make it
/// and it ends with the session.
pub fn csrf_token(session: &Secret) -> String {
    let digest = Sha256::new().chain_update(b"audiovault csrf 1").chain_update(session.octets()).finalize();
    data_encoding::BASE64URL_NOPAD.encode(&digest)
}

/// Whether a text is the session's token, in a time that does not depend on how much of it is right.
pub fn is_csrf_token(session: &Secret, text: &str) -> bool {
    csrf_token(session).as_bytes().ct_eq(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_our_own_pages_may_change_things() {
        let uri: Uri = "/users".parse().unwrap();
        for (pairs, expected) in [
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")][..], true),
            (&[("sec-fetch-site", "cross-site"), ("host", "a"), ("origin", "http://a")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("host", "relay:8090"), ("origin", "http://relay:8090")], true),
            (&[("host", "relay:8090"), ("origin", "http://relay")], false),
            (&[("host", "relay"), ("origin", "null")], false),
            (&[("host", "relay")], false),
            (&[], false),
        ] {
            assert_eq!(is_same_origin(&uri, &headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_token_belongs_to_one_session() {
        let (mine, other) = (Secret::mint(), Secret::mint());
        assert!(is_csrf_token(&mine, &csrf_token(&mine)));
        assert!(!is_csrf_token(&mine, &csrf_token(&other)));
        assert!(!is_csrf_token(&mine, ""));
    }
}
