//! Limits on requests under way, downloads included: for each client, for each site, and for one client at one
//! site.

use std::collections::HashMap;

use audiovault_protocol::identity::site::SiteId;
use serde::{Deserialize, Serialize};

use super::{ClientKey, KeyedSemaphore, Permit};

/// Why a request is not admitted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The client has too many requests under way, at all sites together.
    #[error("too many concurrent requests from your address; wait for some to finish")]
    Client,
    /// The client has half of the requests under way that the site allows.
    #[error("too many concurrent requests from your address to this site; wait for some to finish")]
    Share,
    /// All clients together have as many requests under way as the site allows.
    #[error("the site is busy; try again in a moment")]
    Site,
}

/// The permits of requests under way.
#[derive(Debug)]
pub struct RequestLimits {
    clients: KeyedSemaphore<ClientKey>,
    sites: KeyedSemaphore<SiteId>,
    /// One client never has more than half of a site's permits. A client that opens as many requests as it may
    /// and reads none of the responses leaves the other half to the others.
    shares: KeyedSemaphore<(ClientKey, SiteId)>,
}

/// The requests under way at one relay, as it reports them to its peers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UnderWay {
    /// The requests that each client has there.
    clients: Vec<(ClientKey, u32)>,
    /// The requests of each client that are answered there, by site.
    shares: Vec<((ClientKey, SiteId), u32)>,
}

/// A request's permit at its site.
#[derive(Debug)]
pub struct SitePermit {
    _site: Permit<SiteId>,
    _share: Permit<(ClientKey, SiteId)>,
}

impl RequestLimits {
    /// Limits of `per_client` requests for each client and `per_site` requests for each site.
    pub fn new(per_client: u32, per_site: u32) -> Self {
        Self {
            clients: KeyedSemaphore::new(per_client),
            sites: KeyedSemaphore::new(per_site),
            shares: KeyedSemaphore::new(per_site.div_ceil(2)),
        }
    }

    /// Takes a permit for a request of this client.
    ///
    /// # Errors
    /// [`Busy::Client`] if none is left.
    pub fn enter(&self, client: ClientKey) -> Result<Permit<ClientKey>, Busy> {
        self.clients.take(client).ok_or(Busy::Client)
    }

    /// Takes a permit for a request at its site.
    ///
    /// # Errors
    /// [`Busy::Share`] or [`Busy::Site`] if none is left.
    pub fn enter_site(&self, client: ClientKey, site: &SiteId) -> Result<SitePermit, Busy> {
        let share = self.shares.take((client, site.clone())).ok_or(Busy::Share)?;
        let site = self.sites.take(site.clone()).ok_or(Busy::Site)?;
        Ok(SitePermit { _site: site, _share: share })
    }

    /// The requests that are under way here.
    pub(super) fn report(&self) -> UnderWay {
        UnderWay { clients: self.clients.all(), shares: self.shares.all() }
    }

    /// Counts the requests under way at all peer relays, instead of those that they reported before.
    pub(super) fn apply<'a>(&self, all: impl Iterator<Item = &'a UnderWay>) {
        let mut clients = HashMap::new();
        let mut sites = HashMap::new();
        let mut shares = HashMap::new();
        for other in all {
            for (client, count) in &other.clients {
                add(&mut clients, *client, *count);
            }
            for (share, count) in &other.shares {
                add(&mut sites, share.1.clone(), *count);
                add(&mut shares, share.clone(), *count);
            }
        }
        self.clients.set_elsewhere(clients);
        self.sites.set_elsewhere(sites);
        self.shares.set_elsewhere(shares);
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
        let site = SiteId::parse("acme").unwrap();
        let other = SiteId::parse("other").unwrap();
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
        here.apply([there.report(), third.report()].iter());
        assert_eq!(here.enter(client(1)).unwrap_err(), Busy::Client);
        let _one = here.enter_site(client(1), &site).unwrap();
        assert_eq!(here.enter_site(client(1), &site).unwrap_err(), Busy::Share);
        let _two = here.enter_site(client(3), &site).unwrap();
        assert_eq!(here.enter_site(client(3), &site).unwrap_err(), Busy::Site);
        here.apply([].iter());
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
