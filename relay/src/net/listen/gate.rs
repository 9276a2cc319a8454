//! The limits on connections: the gate of `protocol`, with an exception for trusted proxies.

use std::net::IpAddr;

use audiovault_protocol::admission::gate::{self, Admission};
use ipnet::IpNet;

use crate::limits::ClientKey;

/// Limits the connections of all listeners that share it.
#[derive(Debug)]
pub struct Gate {
    all: gate::Gate,
    /// Proxies that speak for many clients; the limit per client does not apply to them.
    proxies: Vec<IpNet>,
    /// Paths that are served even on connections over a limit.
    pub(super) always: &'static [&'static str],
}

impl Gate {
    /// A gate for at most `most` connections in all and `per_client` of each client, except for proxies.
    pub fn new(most: u32, per_client: u32, proxies: Vec<IpNet>) -> Self {
        Self { all: gate::Gate::new(most, per_client), proxies, always: &[] }
    }

    /// Serves these paths even on connections over a limit.
    #[must_use]
    pub fn with_room_for(self, always: &'static [&'static str]) -> Self {
        Self { always, ..self }
    }

    /// The number of open connections.
    pub fn open(&self) -> u32 {
        self.all.open()
    }

    /// Connections that were refused since the start, with or without a response.
    pub fn refused(&self) -> u32 {
        self.all.refused()
    }

    /// Decides about a connection.
    pub(super) fn admit(&self, peer: IpAddr) -> Admission {
        let peer = peer.to_canonical();
        let proxy = self.proxies.iter().any(|network| network.contains(&peer));
        self.all.admit((!proxy).then(|| ClientKey::from(peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_no_limit_of_a_client() {
        let gate = Gate::new(100, 1, vec!["10.0.0.0/8".parse().unwrap()]);
        let knocks = |peer: &str| {
            let peer: IpAddr = peer.parse().unwrap();
            let knocks: Vec<_> = (0..3).map(|_| gate.admit(peer)).collect();
            knocks.iter().filter(|admit| matches!(admit, Admission::Admitted(_))).count()
        };
        assert_eq!((knocks("192.0.2.1"), knocks("10.0.0.1"), knocks("::ffff:10.0.0.1")), (1, 3, 3));
        assert_eq!((gate.open(), gate.refused()), (0, 2));
    }
}
