//! Keeps other sites from using a browser's session: requests that change something must come from our own pages.
//!
//! Two walls, each enough alone: the browser's word about where a request comes from, and a token that only our pages
//! hold. Requests with an API token need neither, since no browser adds one by itself.

use http::{HeaderMap, HeaderName, Uri, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::model::secret::Secret;

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

/// Bytes of a token, and of what masks it.
const TOKEN_LEN: usize = 32;

/// The token that every form of a session carries, as one answer has it. It follows from the session's secret, so nobody else
/// can make it and it ends with the session. Each call masks it by other random bytes, which stand before it: answers are
/// compressed, and the length of many answers with the same letters would tell them (BREACH).
pub fn csrf_token(session: &Secret) -> String {
    let mask: [u8; TOKEN_LEN] = rand::random();
    data_encoding::BASE64URL_NOPAD.encode(&[mask, masked(token(session), &mask)].concat())
}

fn token(session: &Secret) -> [u8; TOKEN_LEN] {
    Sha256::new().chain_update(b"audiovault csrf 1").chain_update(session.octets()).finalize().into()
}

/// Puts a mask on, or takes it off.
fn masked(mut token: [u8; TOKEN_LEN], mask: &[u8]) -> [u8; TOKEN_LEN] {
    token.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    token
}

/// Whether a text is the session's token, in a time that does not depend on how much of it is right.
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
        let (mine, other) = (Secret::mint(), Secret::mint());
        assert!(is_csrf_token(&mine, &csrf_token(&mine)));
        assert!(!is_csrf_token(&mine, &csrf_token(&other)));
        for wrong in ["", "A", "?", &"A".repeat(43), &"A".repeat(86), &format!("{}A", csrf_token(&mine))] {
            assert!(!is_csrf_token(&mine, wrong), "{wrong}");
        }
    }

    #[test]
    fn no_two_answers_hold_the_same_letters_of_a_token() {
        let session = Secret::mint();
        let (one, other) = (csrf_token(&session), csrf_token(&session));
        assert!(is_csrf_token(&session, &one) && is_csrf_token(&session, &other));
        let alike = one.bytes().zip(other.bytes()).filter(|(one, other)| one == other).count();
        assert!(alike < 20, "{alike} of 86 letters are the same, where chance makes one or two");
    }
}
