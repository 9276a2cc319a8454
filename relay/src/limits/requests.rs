//! Requests under way, downloads included: so many for each client, for each site, and for one client at one site.

use audiovault_protocol::site::SiteId;

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
    fn clients_do_not_count_for_each_other() {
        let limits = RequestLimits::new(1, 4);
        let _first = limits.enter(client(1)).unwrap();
        assert_eq!(limits.enter(client(1)).unwrap_err(), Busy::Client);
        assert!(limits.enter(client(2)).is_ok());
    }
}
