//! The client's address and scheme, taken from the connection, or from a proxy that is trusted to name its own
//! clients correctly.
//!
//! Proxies append: the rightmost entry was written by the proxy that is connected to this relay, and everything left
//! of the first untrusted address may be made up by the client at that address. So the walk goes from the right and
//! ends at the first address that is not a trusted proxy.
//!
//! If both kinds of header are present, `X-Forwarded-For` is used: nearly every proxy writes it, and one that writes
//! only `Forwarded` (RFC 7239) must remove the other.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use audiovault_protocol::admission::connection::{Connection, ConnectionMeter};
use http::{HeaderMap, HeaderName, Request};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How a client reached the first proxy, or this relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// Over TLS.
    Https,
}

/// The address of the client as [`identify`] found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// What one proxy says about a request: from which address it came, and by which scheme, as far as known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Hop {
    address: Option<IpAddr>,
    scheme: Option<Scheme>,
}

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundClient {
    /// Its address. IPv4-mapped IPv6 addresses are normalized to IPv4, so that one client has one address.
    pub address: IpAddr,
    /// How it reached the first proxy, or this relay.
    pub scheme: Scheme,
}

/// Finds the client of a request: the peer of its connection, unless that is one of the proxies that are `trusted` to
/// name another. The same holds for the scheme.
pub fn find(connection: &Connection, headers: &HeaderMap, trusted: &[IpNet]) -> FoundClient {
    resolve(connection.peer.ip(), connection.meter.is_tls(), headers, trusted)
}

/// As [`find`], for a listener whose handlers take both from the request's extensions: [`ClientAddress`] and
/// [`Scheme`].
pub fn identify<B>(request: &mut Request<B>, peer: IpAddr, trusted: &[IpNet]) {
    let tls = request.extensions().get::<Arc<ConnectionMeter>>().is_some_and(|meter| meter.is_tls());
    let FoundClient { address, scheme } = resolve(peer, tls, request.headers(), trusted);
    request.extensions_mut().insert(ClientAddress(address));
    request.extensions_mut().insert(scheme);
}

fn resolve(peer: IpAddr, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> FoundClient {
    let (address, stated) = walk(peer, headers, trusted);
    let own = if tls { Scheme::Https } else { Scheme::Http };
    FoundClient { address, scheme: stated.unwrap_or(own) }
}

fn walk(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> (IpAddr, Option<Scheme>) {
    let mut address = peer.to_canonical();
    let mut scheme = None;
    for hop in hops(headers).into_iter().rev() {
        if !trusted.iter().any(|network| network.contains(&address)) {
            break;
        }
        scheme = hop.scheme.or(scheme);
        match hop.address {
            Some(next) => address = next,
            // The proxy does not know the address or does not name it; entries further left cannot be trusted.
            None => break,
        }
    }
    (address, scheme)
}

/// What the proxies say, the nearest one last.
fn hops(headers: &HeaderMap) -> Vec<Hop> {
    if headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(X_FORWARDED_PROTO) {
        return x_forwarded(headers);
    }
    headers
        .get_all(http::header::FORWARDED)
        .iter()
        .flat_map(|value| forwarded(value.to_str().unwrap_or_default()))
        .collect()
}

fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let addresses = elements(headers, &X_FORWARDED_FOR);
    let schemes = elements(headers, &X_FORWARDED_PROTO);
    let mut hops: Vec<Hop> = addresses.iter().map(|text| Hop { address: node(text), scheme: None }).collect();
    if hops.is_empty() {
        hops.push(Hop::default());
    }
    // Most proxies append the address but replace the scheme: then the nearest proxy speaks for all.
    let first = hops.len().saturating_sub(schemes.len());
    for (hop, text) in hops.iter_mut().skip(first).rev().zip(schemes.iter().rev()) {
        hop.scheme = scheme_named(text);
    }
    hops
}

fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect()
}

/// An address with or without a port, IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn scheme_named(text: &str) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(Scheme::Http),
        "https" | "wss" => Some(Scheme::Https),
        _ => None,
    }
}

/// The elements of one header value, from left to right. An element that cannot be parsed becomes an empty hop, which
/// ends the walk there.
/// The hops in a value of the `Forwarded` header (RFC 7239, section 4).
fn forwarded(value: &str) -> Vec<Hop> {
    split(value, ',').into_iter().map(element).collect()
}

fn element(text: &str) -> Hop {
    let mut hop = Hop::default();
    for pair in split(text, ';') {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        let value = unquote(value.trim());
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.address = node(&value),
            "proto" => hop.scheme = scheme_named(&value),
            _ => {}
        }
    }
    hop
}

/// Splits at a separator, but not within quoted strings.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(text[start..at].trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        plain.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests;
