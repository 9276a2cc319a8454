//! A small Internet: a relay's side, a router that translates addresses and lets nothing in, and a site behind it, each
//! in a network namespace of its own.

use std::{
    fs::File,
    net::SocketAddr,
    os::fd::AsFd,
    process::{Command, Output},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    address::free_address,
    process::{installed, skip},
};

/// Where the relay listens. Addresses are those of RFC 5737, for documentation.
pub const RELAY: &str = "198.51.100.1:443";
/// The router's address on the relay's side: all that anybody sees of the site.
pub const ROUTER: &str = "198.51.100.2";

/// What each of the three is told.
const SETUP: &str = "
ip netns add $net; ip netns add $nat; ip netns add $site
ip -n $net link add wire type veth peer name outside netns $nat
ip -n $nat link add inside type veth peer name wire netns $site
for side in $net $nat $site; do ip -n $side link set lo up; done
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

/// The namespaces. They go when this is dropped.
#[derive(Debug)]
pub struct Network {
    id: String,
}

impl Network {
    /// Makes one, and moves this thread, with every program that it starts from now on, to the relay's side. `None`,
    /// noted as skipped, where that cannot be done.
    pub fn enter() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("stories in network namespaces: only root may make them");
            return None;
        }
        if !installed("ip") || !installed("nft") {
            return None;
        }
        let network = Self { id: format!("av{}", free_address().port()) };
        let made = network.shell(SETUP).expect("a shell");
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            skip(&format!("stories in network namespaces: they cannot be made here ({})", why.trim()));
            return None;
        }
        let side = File::open(format!("/run/netns/{}", network.name("net"))).expect("a namespace");
        move_into_link_name_space(side.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
        Some(network)
    }

    /// Where a relay can listen.
    pub fn relay_address() -> SocketAddr {
        RELAY.parse().expect("an address")
    }

    /// The namespace of the site.
    pub fn site(&self) -> String {
        self.name("site")
    }

    /// Runs a line of shell in which `$net`, `$nat` and `$site` are the namespaces; its standard output.
    pub fn sh(&self, line: &str) -> String {
        let done = self.shell(line).expect("a shell");
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("UTF-8")
    }

    fn name(&self, side: &str) -> String {
        format!("{}-{side}", self.id)
    }

    /// Runs a script in which `$net`, `$nat` and `$site` are the three namespaces.
    fn shell(&self, script: &str) -> std::io::Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]);
        command.envs(["net", "nat", "site"].map(|side| (side, self.name(side)))).output()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What lives in them goes on until it ends by itself.
        let _ = self.shell("for side in $net $nat $site; do ip netns del $side; done");
    }
}
