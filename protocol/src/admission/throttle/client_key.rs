//! Which addresses count as one client.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::Allowance;

/// A client as limits see it: an IPv4 address, or the first 64 bits of an IPv6 address. A provider gives every customer
/// at least such a network of 2⁶⁴ addresses (RFC 6177), so a single IPv6 address says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientKey(IpAddr);

/// A network for which attempts are counted: a client, a wider network that its provider may have given to the same
/// customer, or all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    first: IpAddr,
    prefix_len: u8,
}

impl Network {
    /// All clients together.
    pub const EVERYBODY: Self = Self { first: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix_len: 0 };

    fn of_ipv6(address: Ipv6Addr, prefix_len: u8) -> Self {
        let host_bits = 128 - u32::from(prefix_len);
        let first =
            u128::from(address).checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0);
        Self { first: IpAddr::V6(Ipv6Addr::from(first)), prefix_len }
    }
}

impl ClientKey {
    /// The client's own network, with its allowance.
    pub fn network(self) -> (Network, Allowance) {
        let network = match self.0 {
            IpAddr::V4(_) => Network { first: self.0, prefix_len: 32 },
            IpAddr::V6(address) => Network::of_ipv6(address, 64),
        };
        (network, Allowance::CLIENT)
    }

    /// The wider networks of which an IPv6 client may have all addresses. None for IPv4, where every address costs
    /// money.
    pub fn wider_networks(self) -> impl Iterator<Item = (Network, Allowance)> {
        let wider = match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some([
                (Network::of_ipv6(address, 56), Allowance::NETWORK_56),
                (Network::of_ipv6(address, 48), Allowance::NETWORK_48),
            ]),
        };
        wider.into_iter().flatten()
    }
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }
}

impl fmt::Display for ClientKey {
    /// An address, or a network with its prefix length (RFC 4291, section 2.3).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_a_customer_are_those_of_its_neighbours() {
        let wider = |text: &str| {
            ClientKey::from(text.parse::<IpAddr>().unwrap())
                .wider_networks()
                .map(|wide| wide.0)
                .collect::<Vec<_>>()
        };
        let [first, same_56, same_48, other] =
            ["2001:db8:0:1::1", "2001:db8:0:ff::1", "2001:db8:0:100::1", "2001:db8:1:1::1"].map(wider);
        assert_eq!(first, same_56);
        assert!(first[0] != same_48[0] && first[1] == same_48[1]);
        assert_ne!(first[1], other[1]);
        assert!(wider("192.0.2.1").is_empty() && wider("::ffff:192.0.2.1").is_empty());
    }

    #[test]
    fn an_ipv6_customer_is_one_client_and_ipv4_in_ipv6_is_ipv4() {
        let key = |text: &str| ClientKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:0:1::7").to_string(), "2001:db8:0:1::/64");
        assert_eq!(key("::ffff:192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.2"), key("192.0.2.1"));
    }
}
