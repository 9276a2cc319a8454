//! A small Internet, each part in a network namespace of its own: the relay's side, a NAT router that lets no
//! connection in, and a site behind the router.

use std::net::SocketAddr;

use crate::{namespaces::Namespaces, process::installed};

/// The address on which the relay listens. The addresses are those for documentation (RFC 5737).
pub const RELAY: &str = "198.51.100.1:443";
/// The router's address on the relay's side, which is all that can be seen of the site.
pub const ROUTER: &str = "198.51.100.2";

/// The commands that set up the three namespaces.
const SETUP: &str = "
ip -n $net link add wire type veth peer name outside netns $nat
ip -n $nat link add inside type veth peer name wire netns $site
ip -n $net addr add 198.51.100.1/24 dev wire
ip -n $net link set wire up
ip -n $nat addr add 198.51.100.2/24 dev outside
ip -n $nat link set outside up
ip -n $nat addr add 192.168.77.1/24 dev inside
ip -n $nat link set inside up
ip -n $site addr add 192.168.77.2/24 dev wire
ip -n $site link set wire up
ip -n $site route add default via 192.168.77.1
ip netns exec $nat sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
ip netns exec $nat nft -f - <<'RULES'
table ip translation {
  chain out { type nat hook postrouting priority 100; oifname outside masquerade; }
}
table inet wall {
  counter refused { }
  chain through { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname inside accept; counter name refused; }
  chain inward { type filter hook input priority 0; policy drop; ct state established,related accept; iifname inside accept; counter name refused; }
}
RULES
ip netns exec $site nft -f - <<'RULES'
table inet wall {
  counter refused { }
  chain inward { type filter hook input priority 0; policy drop; ct state established,related accept; iifname lo accept; counter name refused; }
}
RULES
";

/// The namespaces. They are removed when this is dropped.
#[derive(Debug)]
pub struct Network {
    namespaces: Namespaces,
}

impl Network {
    /// Makes the network and moves this thread, with every program that it starts from now on, to the relay's side.
    /// `None`, recorded as skipped, if that is not possible here.
    pub fn enter() -> Option<Self> {
        if !installed("nft") {
            return None;
        }
        let namespaces = Namespaces::make(&["net", "nat", "site"], SETUP)?;
        namespaces.side("net").enter();
        Some(Self { namespaces })
    }

    /// The address on which a relay can listen.
    pub fn relay_address() -> SocketAddr {
        RELAY.parse().expect("an address")
    }

    /// The namespace of the site.
    pub fn site(&self) -> String {
        self.namespaces.name("site")
    }

    /// Runs a shell command in which `$net`, `$nat` and `$site` are the namespaces. Returns its standard output.
    pub fn sh(&self, line: &str) -> String {
        self.namespaces.run(line).unwrap_or_else(|why| panic!("{line}: {why}"))
    }
}
