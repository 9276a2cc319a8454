//! Rate limits on attempts to log in.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::HashMapStateStore,
};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::{ChangeLog, Changes, ClientKey};
use crate::model::account::Name;

/// Attempts at one name from one address: five at once, then one in ten seconds. A person who knows the
/// password waits ten seconds at worst; an attacker gets through 8640 passwords in a day.
const BY_NAME_BURST: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
const BY_NAME_EVERY: Duration = Duration::from_secs(10);
/// Attempts from one address at all names together: a whole office behind one address may start work at nine.
const BY_ADDRESS_BURST: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
const BY_ADDRESS_EVERY: Duration = Duration::from_secs(1);
/// If more addresses or names than this are remembered, those that have all their attempts again are forgotten.
const MAX_REMEMBERED: usize = 10_000;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// An attempt to log in. `name` is `None` if the text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginAttempt {
    name: Option<Name>,
    client: ClientKey,
}

/// Counts attempts to log in.
#[derive(Debug)]
pub struct LoginThrottle {
    by_name: Limiter<(Name, ClientKey)>,
    by_address: Limiter<ClientKey>,
    log: Mutex<ChangeLog<LoginAttempt>>,
}

impl Default for LoginThrottle {
    fn default() -> Self {
        Self {
            by_name: RateLimiter::hashmap(quota(BY_NAME_EVERY, BY_NAME_BURST)),
            by_address: RateLimiter::hashmap(quota(BY_ADDRESS_EVERY, BY_ADDRESS_BURST)),
            log: Mutex::default(),
        }
    }
}

impl LoginThrottle {
    /// Counts an attempt.
    ///
    /// # Errors
    /// The time to wait before the next attempt.
    pub fn attempt(&self, name: Option<&Name>, client: ClientKey) -> Result<(), Duration> {
        let attempt = LoginAttempt { name: name.cloned(), client };
        self.count(&attempt)?;
        self.log().push(attempt);
        Ok(())
    }

    /// The attempts that a peer relay does not know of yet.
    pub(super) fn report(&self, since: Option<u64>) -> Changes<LoginAttempt> {
        self.log().since(since)
    }

    /// Counts an attempt that a peer relay has admitted.
    pub(super) fn apply(&self, attempt: &LoginAttempt) {
        // The peer has already admitted the attempt. If it is over the limit here, there is nothing left to
        // refuse.
        let _ = self.count(attempt);
    }

    fn log(&self) -> MutexGuard<'_, ChangeLog<LoginAttempt>> {
        self.log.lock()
    }

    fn count(&self, attempt: &LoginAttempt) -> Result<(), Duration> {
        forget(&self.by_name);
        forget(&self.by_address);
        let now = DefaultClock::default().now();
        self.by_address.check_key(&attempt.client).map_err(|until| until.wait_time_from(now))?;
        let Some(name) = &attempt.name else { return Ok(()) };
        let by_name = self.by_name.check_key(&(name.clone(), attempt.client));
        by_name.map_err(|until| until.wait_time_from(now))
    }
}

fn quota(every: Duration, burst: NonZeroU32) -> Quota {
    // `with_period` fails only for a period of zero, and `every` is a constant above zero.
    Quota::with_period(every).unwrap_or_else(|| Quota::per_second(burst)).allow_burst(burst)
}

fn forget<K: std::hash::Hash + Eq + Clone>(limiter: &Limiter<K>) {
    if limiter.len() > MAX_REMEMBERED {
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(text: &str) -> ClientKey {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_name_is_throttled_without_shutting_others_out() {
        let throttle = LoginThrottle::default();
        let (maria, jose): (Name, Name) = ("maria".parse().unwrap(), "jose".parse().unwrap());
        let here = client("192.0.2.1");
        for _ in 0..BY_NAME_BURST.get() {
            throttle.attempt(Some(&maria), here).unwrap();
        }
        let wait = throttle.attempt(Some(&maria), here).unwrap_err();
        assert!(wait <= BY_NAME_EVERY, "{wait:?}");
        throttle.attempt(Some(&jose), here).unwrap();
        throttle.attempt(Some(&maria), client("192.0.2.2")).unwrap();
    }

    #[test]
    fn one_address_cannot_go_through_all_names() {
        let throttle = LoginThrottle::default();
        let here = client("2001:db8::1");
        let name = |n: u32| format!("user{n}").parse::<Name>().unwrap();
        let refused =
            (0..2 * BY_ADDRESS_BURST.get()).filter(|n| throttle.attempt(Some(&name(*n)), here).is_err());
        assert!(refused.count() >= 50);
    }

    #[test]
    fn attempts_at_another_relay_count_here() {
        let here = LoginThrottle::default();
        let there = LoginThrottle::default();
        let (maria, whence): (Name, _) = ("maria".parse().unwrap(), client("192.0.2.1"));
        let known = here.report(None).number;
        for _ in 0..BY_NAME_BURST.get() {
            here.attempt(Some(&maria), whence).unwrap();
        }
        here.report(Some(known)).items.iter().for_each(|attempt| there.apply(attempt));
        there.attempt(Some(&maria), whence).unwrap_err();
        assert!(there.report(Some(0)).items.is_empty(), "a reported change goes no further");
    }
}
