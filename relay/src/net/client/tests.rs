use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn trusted() -> Vec<IpNet> {
    ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect()
}

fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    resolve(peer, false, headers, trusted).address
}

fn scheme(peer: IpAddr, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Scheme {
    resolve(peer, tls, headers, trusted).scheme
}

/// The client's address, as seen behind the proxy 127.0.0.1.
fn seen(pairs: &[(&'static str, &str)]) -> String {
    address(ip("127.0.0.1"), &headers(pairs), &trusted()).to_string()
}

#[test]
fn an_untrusted_peer_cannot_state_another_address() {
    let forged = headers(&[
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.9;proto=https"),
    ]);
    let peer = ip("198.51.100.7");
    assert_eq!(address(peer, &forged, &trusted()), peer);
    assert_eq!(scheme(peer, false, &forged, &trusted()), Scheme::Http);
    assert_eq!(address(ip("127.0.0.1"), &forged, &[]), ip("127.0.0.1"));
}

#[test]
fn the_walk_ends_at_the_first_untrusted_address_from_the_right() {
    for (value, client) in [
        ("203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 10.0.0.5", "203.0.113.9"),
        ("10.0.0.6, 10.0.0.5", "10.0.0.6"),
        ("203.0.113.9, unknown", "127.0.0.1"),
        ("203.0.113.9, unknown, 10.0.0.5", "10.0.0.5"),
        ("", "127.0.0.1"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ] {
        assert_eq!(seen(&[("x-forwarded-for", value)]), client, "{value:?}");
    }
}

#[test]
fn several_headers_are_one_list() {
    let both = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(seen(&both), "203.0.113.9");
}

#[test]
fn forwarded_is_read_as_rfc_7239_says() {
    for (value, client) in [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=1.2.3.4, for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
        ("for=203.0.113.9;host=\"a,b;for=1.2.3.4\"", "203.0.113.9"),
        ("for=203.0.113.9, for=_hidden", "127.0.0.1"),
        ("for=203.0.113.9, proto=https", "127.0.0.1"),
        ("for=\"203.0.113.\\9\"", "203.0.113.9"),
        ("for=\"203.0.113.9", "127.0.0.1"),
        (";;,=,\"", "127.0.0.1"),
    ] {
        assert_eq!(seen(&[("forwarded", value)]), client, "{value:?}");
    }
}

#[test]
fn the_usual_header_wins_over_one_that_a_client_may_have_slipped_in() {
    let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=1.2.3.4")];
    assert_eq!(seen(&both), "203.0.113.9");
}

#[test]
fn an_ipv4_proxy_is_known_on_a_dual_stack_listener_too() {
    let forwarded = headers(&[("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(address(ip("::ffff:10.0.0.1"), &forwarded, &trusted()), ip("203.0.113.9"));
}

#[test]
fn the_scheme_is_the_proxys_word_or_that_of_the_connection() {
    let proxy = ip("10.0.0.1");
    for (pairs, expected) in [
        (&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")][..], Scheme::Https),
        (&[("x-forwarded-proto", "HTTPS")], Scheme::Https),
        (&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "gopher")], Scheme::Http),
        (&[("x-forwarded-for", "1.2.3.4, 10.0.0.9"), ("x-forwarded-proto", "https")], Scheme::Https),
        (&[("x-forwarded-for", "1.2.3.4, 10.0.0.9"), ("x-forwarded-proto", "https, http")], Scheme::Https),
        (&[("x-forwarded-for", "6.6.6.6, 1.2.3.4"), ("x-forwarded-proto", "https, http")], Scheme::Http),
        (&[("forwarded", "for=1.2.3.4;proto=https")], Scheme::Https),
        (&[("forwarded", "for=6.6.6.6;proto=https, for=1.2.3.4")], Scheme::Http),
        (&[], Scheme::Http),
    ] {
        assert_eq!(scheme(proxy, false, &headers(pairs), &trusted()), expected, "{pairs:?}");
    }
    assert_eq!(scheme(proxy, true, &HeaderMap::new(), &trusted()), Scheme::Https);
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical()),
        any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
    ]
}

fn is_trusted(address: &IpAddr) -> bool {
    trusted().iter().any(|network| network.contains(address))
}

proptest! {
    #[test]
    fn the_address_is_the_one_that_the_proxy_saw_with_any_forged_header(
        forged in "[ -~]{0,80}",
        client in any_address().prop_filter("a client, not a proxy", |address| !is_trusted(address)),
        proxies in prop::collection::vec(any::<[u8; 3]>(), 0..4),
    ) {
        let passed = proxies.iter().map(|[a, b, c]| format!(", 10.{a}.{b}.{c}"));
        let value = format!("{forged}, {client}{}", passed.collect::<String>());
        prop_assert_eq!(seen(&[("x-forwarded-for", &value)]), client.to_string());
    }

    #[test]
    fn both_headers_give_the_same_address(chain in prop::collection::vec(any_address(), 1..6)) {
        let plain: Vec<String> = chain.iter().map(ToString::to_string).collect();
        let rfc: Vec<String> = chain
            .iter()
            .map(|address| match address {
                IpAddr::V4(v4) => format!("for={v4}"),
                IpAddr::V6(v6) => format!("for=\"[{v6}]\""),
            })
            .collect();
        prop_assert_eq!(
            seen(&[("x-forwarded-for", &plain.join(", "))]),
            seen(&[("forwarded", &rfc.join(", "))])
        );
    }

    #[test]
    fn a_client_is_the_peer_or_someone_a_trusted_peer_named(
        peer in any_address(),
        usual in "[ -~]{0,60}",
        rfc in "[ -~]{0,60}",
    ) {
        let both = headers(&[("x-forwarded-for", &usual), ("forwarded", &rfc)]);
        let client = address(peer, &both, &trusted());
        prop_assert!(client == peer.to_canonical() || is_trusted(&peer.to_canonical()));
        let rfc_only = headers(&[("forwarded", &rfc)]);
        address(peer, &rfc_only, &trusted());
        scheme(peer, false, &rfc_only, &trusted());
    }
}
