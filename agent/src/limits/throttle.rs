//! Throttles clients that send wrong search tokens, through a tunnel or to the local port.
//!
//! Attempts are counted for each pair of client and tenant, as in the relay. Behind a relay both count: only the agent
//! knows which field of a request is the token, and only the relay can keep a request away from the site.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_protocol::{
    admission::throttle::{Buckets, ClientKey, Counted, Full, Network, RightLately},
    http::context::Client,
};
use parking_lot::Mutex;

use crate::auth::{Denied, Grant};

/// Most pairs that are remembered, about 1 MB. A forgotten pair starts again, which gives ten guesses to an attacker
/// with thousands of addresses.
const MAX_PAIRS: usize = 8_192;
/// Right tokens that are remembered, each with a client: QueueMetrics for each tenant, and users whose browsers search.
const MAX_RIGHT: usize = 1024;

/// Why a search is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoGrant {
    /// The token is missing or wrong.
    Denied(Denied),
    /// The token was not checked. The next one is checked after this time.
    Throttled(Duration),
}

/// Counts wrong tokens, and remembers right ones. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub(crate) struct TokenThrottle(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    buckets: Buckets<(Network, Option<String>), RandomState>,
    right: RightLately<RandomState>,
    hasher: RandomState,
}

/// The client, tenant and token of a search.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) client: ClientKey,
    /// The tenant that is requested, if it is one of this site.
    pub(crate) tenant: Option<&'a str>,
    pub(crate) token: Option<&'a str>,
}

impl Default for TokenThrottle {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            buckets: Buckets::new(MAX_PAIRS, RandomState::new()),
            right: RightLately::new(MAX_RIGHT, RandomState::new()),
            hasher: RandomState::new(),
        })))
    }
}

impl TokenThrottle {
    /// Checks a token with `check`, unless too many of the pair were wrong. A token that was right recently is always
    /// checked.
    pub(crate) fn check(
        &self,
        attempt: &Attempt<'_>,
        now: Instant,
        check: impl FnOnce() -> Result<Grant, Denied>,
    ) -> Result<Grant, NoGrant> {
        let tenant = attempt.tenant.map(str::to_owned);
        let keys = |counted: Counted| counted.keys(attempt.client, &tenant, &None);
        let mut state = self.0.lock();
        let digest = state.hasher.hash_one((attempt.client, attempt.tenant, attempt.token));
        let client = state.hasher.hash_one(attempt.client);
        if !state.right.contains(digest) {
            let counted = match state.right.contains(client) {
                true => Counted::ForItself,
                false => Counted::WithAllClients,
            };
            if let Err(Full::Wrong(wait)) = state.buckets.check(&keys(counted), now) {
                return Err(NoGrant::Throttled(wait));
            }
        }
        match check() {
            Ok(grant) => {
                state.right.insert(client);
                state.right.insert(digest);
                Ok(grant)
            }
            Err(denied) => {
                state.right.remove(digest);
                state.buckets.wrong(&keys(Counted::WithAllClients), now);
                Err(NoGrant::Denied(denied))
            }
        }
    }
}

/// The client of a request. All requests without an address count as one client.
pub(crate) fn client_key(client: &Client) -> ClientKey {
    let address = client.address.as_deref().and_then(|address| address.parse().ok());
    address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;

    fn client(last: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn check(throttle: &TokenThrottle, attempt: &Attempt<'_>, now: Instant) -> Result<Grant, NoGrant> {
        throttle.check(attempt, now, || match attempt.token {
            Some("right") => Ok(Grant { tenant: None, scope: Scope::Everything, token: [0; 32] }),
            _ => Err(Denied),
        })
    }

    /// How many of many different wrong tokens are checked.
    fn guess(throttle: &TokenThrottle, last: u8, now: Instant) -> usize {
        let guesses = (0..100).map(|n| {
            let token = format!("guess-{n}");
            check(throttle, &Attempt { client: client(last), tenant: None, token: Some(&token) }, now)
        });
        guesses.filter(|judged| *judged == Err(NoGrant::Denied(Denied))).count()
    }

    #[test]
    fn ten_wrong_tokens_are_looked_at_and_then_one_in_six_seconds() {
        let throttle = TokenThrottle::default();
        let now = Instant::now();
        assert_eq!(guess(&throttle, 1, now), 10);
        assert_eq!(guess(&throttle, 1, now + Duration::from_secs(6)), 1);
        assert_eq!(guess(&throttle, 2, now), 10, "another client is another matter");
    }

    #[test]
    fn a_right_token_passes_behind_wrong_ones_where_it_was_right_from_this_client() {
        let throttle = TokenThrottle::default();
        let now = Instant::now();
        let right = |last| Attempt { client: client(last), tenant: None, token: Some("right") };
        assert!(check(&throttle, &right(1), now).is_ok());
        guess(&throttle, 1, now);
        assert!(check(&throttle, &right(1), now).is_ok());
        guess(&throttle, 2, now);
        let wait = Duration::from_secs(6);
        assert_eq!(check(&throttle, &right(2), now), Err(NoGrant::Throttled(wait)), "it is like any guess");
        assert!(check(&throttle, &right(2), now + wait).is_ok());
    }

    #[test]
    fn requests_without_an_address_are_one_client() {
        let known = Client { address: Some("192.0.2.1".to_owned()), user_agent: None };
        assert_eq!(client_key(&known), client(1));
        assert_eq!(client_key(&Client::default()), IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    }
}
