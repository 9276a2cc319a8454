//! Protection against requests from other web sites: requests that change something must come from our own pages.
//!
//! There are two checks, and each is enough alone: what the browser says about the origin of a request, and a token
//! that only our pages have. Requests with an API token need neither, since no browser adds one by itself.

use http::{HeaderMap, HeaderName, Uri, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::model::secret::Secret;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the browser says that the request comes from a page of the host it goes to. If `Sec-Fetch-Site` is sent
/// (over TLS and to loopback), it decides; otherwise `Origin` has to name our own host. A request with neither is
/// refused.
pub fn is_same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    // In HTTP/2 the host is part of the address.
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let origin = origin.and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Length of a token and of its mask, in bytes.
const TOKEN_LEN: usize = 32;

/// The token for the forms of a session, masked for one response. It is derived from the session's secret, so nothing
/// can compute it without that secret, and it ends with the session. Each call masks it with other random bytes, which
/// precede it: responses are compressed, and an attacker could guess characters that are the same in many responses
/// from the lengths of these responses (BREACH).
pub fn csrf_token(session: &Secret) -> String {
    let mask: [u8; TOKEN_LEN] = rand::random();
    data_encoding::BASE64URL_NOPAD.encode(&[mask, masked(token(session), &mask)].concat())
}

fn token(session: &Secret) -> [u8; TOKEN_LEN] {
    Sha256::new().chain_update(b"audiovault csrf 1").chain_update(session.bytes()).finalize().into()
}

/// Applies the mask, or removes it.
fn masked(mut token: [u8; TOKEN_LEN], mask: &[u8]) -> [u8; TOKEN_LEN] {
    token.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    token
}

/// Whether a text is the session's token. The time does not depend on how much of the text is right.
pub fn is_csrf_token(session: &Secret, text: &str) -> bool {
    let Ok(bytes) = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()) else { return false };
    let Some((mask, rest)) = bytes.split_at_checked(TOKEN_LEN) else { return false };
    masked(token(session), mask).ct_eq(rest).into()
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
        let mine = Secret::mint();
        let other = Secret::mint();
        assert!(is_csrf_token(&mine, &csrf_token(&mine)));
        assert!(!is_csrf_token(&mine, &csrf_token(&other)));
        for wrong in ["", "A", "?", &"A".repeat(43), &"A".repeat(86), &format!("{}A", csrf_token(&mine))] {
            assert!(!is_csrf_token(&mine, wrong), "{wrong}");
        }
    }

    #[test]
    fn no_two_answers_hold_the_same_letters_of_a_token() {
        let session = Secret::mint();
        let one = csrf_token(&session);
        let other = csrf_token(&session);
        assert!(is_csrf_token(&session, &one) && is_csrf_token(&session, &other));
        let alike = one.bytes().zip(other.bytes()).filter(|(one, other)| one == other).count();
        assert!(alike < 20, "{alike} of 86 letters are the same, where chance makes one or two");
    }
}
