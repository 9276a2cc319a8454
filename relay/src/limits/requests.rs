//! Requests under way, downloads included: so many for each client, for each site, and for one client at one site.

use std::collections::HashMap;

use audiovault_protocol::site::SiteId;
use serde::{Deserialize, Serialize};

use super::{ClientKey, Slot, Slots};

/// Why a request is not let in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The client has too much under way, wherever.
    #[error("too many requests from your address are under way; wait for some to end")]
    Client,
    /// The client has half of what the site can do under way.
    #[error("too many requests from your address to this site are under way; wait for some to end")]
    Share,
    /// All clients together have all that the site can do under way.
    #[error("the site is busy; try again in a moment")]
    Site,
}

/// Counts requests under way.
#[derive(Debug)]
pub struct RequestLimits {
    clients: Slots<ClientKey>,
    sites: Slots<SiteId>,
    /// One address never has more than half of a site: whoever opens all that he may and takes nothing of it leaves
    /// the other half to the rest.
    shares: Slots<(ClientKey, SiteId)>,
}

/// Requests under way at a relay, for the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UnderWay {
    /// Those that clients have there.
    clients: Vec<(ClientKey, u32)>,
    /// Those of clients that are answered there.
    shares: Vec<((ClientKey, SiteId), u32)>,
}

/// A request's place at a site.
#[derive(Debug)]
pub struct SiteSlot {
    _site: Slot<SiteId>,
    _share: Slot<(ClientKey, SiteId)>,
}

impl RequestLimits {
    /// So many requests for each client, and so many for each site.
    pub fn new(per_client: u32, per_site: u32) -> Self {
        Self {
            clients: Slots::new(per_client),
            sites: Slots::new(per_site),
            shares: Slots::new(per_site.div_ceil(2)),
        }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// [`Busy::Client`].
    pub fn enter(&self, client: ClientKey) -> Result<Slot<ClientKey>, Busy> {
        self.clients.take(client).ok_or(Busy::Client)
    }

    /// Lets a request through to its site.
    ///
    /// # Errors
    /// [`Busy::Share`], [`Busy::Site`].
    pub fn enter_site(&self, client: ClientKey, site: &SiteId) -> Result<SiteSlot, Busy> {
        let share = self.shares.take((client, site.clone())).ok_or(Busy::Share)?;
        let site = self.sites.take(site.clone()).ok_or(Busy::Site)?;
        Ok(SiteSlot { _site: site, _share: share })
    }

    /// What is under way here.
    pub(super) fn tell(&self) -> UnderWay {
        UnderWay { clients: self.clients.all(), shares: self.shares.all() }
    }

    /// Counts what is under way at all others, in place of what they told before.
    pub(super) fn hear<'a>(&self, all: impl Iterator<Item = &'a UnderWay>) {
        let (mut clients, mut sites, mut shares) = (HashMap::new(), HashMap::new(), HashMap::new());
        for other in all {
            for (client, count) in &other.clients {
                add(&mut clients, *client, *count);
            }
            for (share, count) in &other.shares {
                add(&mut sites, share.1.clone(), *count);
                add(&mut shares, share.clone(), *count);
            }
        }
        self.clients.hear(clients);
        self.sites.hear(sites);
        self.shares.hear(shares);
    }
}

fn add<K: std::hash::Hash + Eq>(sums: &mut HashMap<K, u32>, key: K, count: u32) {
    let sum = sums.entry(key).or_default();
    *sum = sum.saturating_add(count);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn one_client_gets_half_of_a_site_and_two_get_all() {
        let limits = RequestLimits::new(100, 4);
        let (site, other) = (SiteId::parse("acme").unwrap(), SiteId::parse("other").unwrap());
        let mut taken: Vec<_> = (0..2).map(|_| limits.enter_site(client(1), &site).unwrap()).collect();
        assert_eq!(limits.enter_site(client(1), &site).unwrap_err(), Busy::Share);
        taken.extend((0..2).map(|_| limits.enter_site(client(2), &site).unwrap()));
        assert_eq!(limits.enter_site(client(3), &site).unwrap_err(), Busy::Site);
        assert!(limits.enter_site(client(1), &other).is_ok());
        taken.clear();
        assert!(limits.enter_site(client(3), &site).is_ok(), "nothing of a refused request stays taken");
    }

    #[test]
    fn what_is_under_way_at_other_relays_counts() {
        let [here, there, third] = [(); 3].map(|()| RequestLimits::new(2, 4));
        let site = SiteId::parse("acme").unwrap();
        let _at_others = (
            there.enter(client(1)).unwrap(),
            third.enter(client(1)).unwrap(),
            there.enter_site(client(1), &site).unwrap(),
            third.enter_site(client(2), &site).unwrap(),
        );
        here.hear([there.tell(), third.tell()].iter());
        assert_eq!(here.enter(client(1)).unwrap_err(), Busy::Client);
        let _one = here.enter_site(client(1), &site).unwrap();
        assert_eq!(here.enter_site(client(1), &site).unwrap_err(), Busy::Share);
        let _two = here.enter_site(client(3), &site).unwrap();
        assert_eq!(here.enter_site(client(3), &site).unwrap_err(), Busy::Site);
        here.hear([].iter());
        assert!(here.enter(client(1)).is_ok(), "the others are lost");
    }

    #[test]
    fn clients_do_not_count_for_each_other() {
        let limits = RequestLimits::new(1, 4);
        let _first = limits.enter(client(1)).unwrap();
        assert_eq!(limits.enter(client(1)).unwrap_err(), Busy::Client);
        assert!(limits.enter(client(2)).is_ok());
    }
}
