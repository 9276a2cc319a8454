//! The rate at which tunnels are admitted.
//!
//! After a restart all agents come back at once. If the relay admitted them all at once, the handshakes would
//! keep it busy while listeners wait.
//!
//! Time is divided into seconds. A second has room for the configured rate, and each client and each site may
//! have a share of it. If there is no room for an agent, the relay reserves a place in the next second that has
//! room. The place is kept for the agent's site, so agents that ask more often do not overtake it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use audiovault_protocol::identity::site::SiteId;
use parking_lot::Mutex;

use super::ClientKey;

/// The furthest second from now in which a place is reserved. An agent that would come later gets no place: by
/// then the rate has room for it without one.
const FURTHEST: u64 = 60;
/// The number of seconds for which a place is kept after its own second. An agent adds up to a second to the
/// stated time, and it may be as busy as the machine that it runs on.
const KEPT_FOR: u64 = 10;
/// The part of the rate that one client may have. One address may belong to all agents of a data centre, and a
/// quarter of the rate is left for all others.
const CLIENT_SHARE: (u32, u32) = (3, 4);
/// The part of the rate that one site may have: it takes ten greedy sites at once to use up the rate.
const SITE_SHARE: (u32, u32) = (1, 10);
/// The share of one client or site in a second that no rate reduces: a few agents with a few tunnels each.
const LEAST_SHARE: u32 = 4;
/// The maximum number of places that are kept for one site at a time. With more, one site could fill the
/// seconds to come. Its other agents get a time after the last of these.
const PLACES_PER_SITE: usize = 4;

/// Admits tunnels at a bounded rate, fairly between sites.
#[derive(Debug)]
pub struct Admissions {
    rate: u32,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is taken of this second and of those to come.
    seconds: BTreeMap<u64, Second>,
    /// The seconds in which sites have places, the earliest first.
    places: HashMap<SiteId, VecDeque<u64>>,
    /// The second in which outdated places were last dropped.
    swept: u64,
}

#[derive(Debug, Default)]
struct Second {
    total: u32,
    clients: HashMap<ClientKey, u32>,
    sites: HashMap<SiteId, u32>,
}

impl Admissions {
    /// Admits `per_second` tunnels a second; zero counts as one.
    pub fn new(per_second: u32) -> Self {
        Self { rate: per_second.max(1), start: Instant::now(), state: Mutex::default() }
    }

    /// Admits a tunnel of a site now.
    ///
    /// # Errors
    /// The time to wait, at least a second and at most a minute: until the second in which a place is kept for
    /// the site.
    pub fn admit(&self, site: &SiteId, client: ClientKey, now: Instant) -> Result<(), Duration> {
        let since_start = now.saturating_duration_since(self.start);
        let second = since_start.as_secs();
        let mut state = self.state.lock();
        state.sweep(second);
        let place = state.place(site, client, second, self.rate);
        if place <= second {
            return Ok(());
        }
        Err((Duration::from_secs(place) - since_start).max(Duration::from_secs(1)))
    }
}

impl State {
    /// The second in which a tunnel of a site is admitted: this one, or one to come.
    fn place(&mut self, site: &SiteId, client: ClientKey, now: u64, rate: u32) -> u64 {
        if let Some(places) = self.places.get_mut(site) {
            if places.front().is_some_and(|place| *place <= now) {
                places.pop_front();
                return now;
            }
            if places.len() >= PLACES_PER_SITE {
                return places.back().map_or(now, |last| last + 1);
            }
        }
        let Some(free) = (now..=now + FURTHEST).find(|second| self.has_room(*second, site, client, rate))
        else {
            return now + FURTHEST;
        };
        self.seconds.entry(free).or_default().take(site, client);
        if free > now {
            let places = self.places.entry(site.clone()).or_default();
            let at = places.partition_point(|place| *place <= free);
            places.insert(at, free);
        }
        free
    }

    fn has_room(&self, second: u64, site: &SiteId, client: ClientKey, rate: u32) -> bool {
        let Some(taken) = self.seconds.get(&second) else { return true };
        let of_client = taken.clients.get(&client).copied().unwrap_or_default();
        let of_site = taken.sites.get(site).copied().unwrap_or_default();
        taken.total < rate && of_client < share(rate, CLIENT_SHARE) && of_site < share(rate, SITE_SHARE)
    }

    /// Drops the seconds that are over, and places that were kept long enough.
    fn sweep(&mut self, now: u64) {
        if self.swept < now {
            self.swept = now;
            self.seconds = self.seconds.split_off(&now);
            self.places.retain(|_, places| {
                places.retain(|place| place + KEPT_FOR >= now);
                !places.is_empty()
            });
        }
    }
}

impl Second {
    fn take(&mut self, site: &SiteId, client: ClientKey) {
        self.total += 1;
        *self.clients.entry(client).or_default() += 1;
        *self.sites.entry(site.clone()).or_default() += 1;
    }
}

/// A part of the rate, but at least [`LEAST_SHARE`] and at most the whole rate.
fn share(rate: u32, (part, of): (u32, u32)) -> u32 {
    (rate / of * part + rate % of * part / of).max(LEAST_SHARE).min(rate)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(number: u32) -> ClientKey {
        IpAddr::from(number.to_be_bytes()).into()
    }

    fn site(number: u32) -> SiteId {
        SiteId::parse(&format!("site-{number}")).unwrap()
    }

    /// Agents that come again at the stated time, at some moment within that second, as real agents do.
    struct Agents {
        admissions: Admissions,
        /// The time at which each agent asks next, with its site and client.
        knocks: BTreeMap<(Duration, u32), (SiteId, ClientKey)>,
        admitted: Vec<(Duration, SiteId)>,
        refused: u32,
    }

    impl Agents {
        fn new(rate: u32, agents: impl IntoIterator<Item = (SiteId, ClientKey)>) -> Self {
            let knocks = (0..).zip(agents).map(|(number, agent)| ((Duration::ZERO, number), agent)).collect();
            Self { admissions: Admissions::new(rate), knocks, admitted: Vec::new(), refused: 0 }
        }

        /// Adds a site whose agent ignores the stated time: it asks once per `every`, for `seconds`.
        fn with_greedy(mut self, greedy: &SiteId, every: Duration, seconds: u32) -> Self {
            let knocks = seconds * u32::try_from(SECOND.as_nanos() / every.as_nanos()).unwrap();
            for knock in 0..knocks {
                self.knocks.insert((every * knock, u32::MAX - knock), (greedy.clone(), client(u32::MAX)));
            }
            self
        }

        fn run(mut self, greedy: Option<&SiteId>) -> Self {
            while let Some(((at, agent), (site, client))) = self.knocks.pop_first() {
                match self.admissions.admit(&site, client, self.admissions.start + at) {
                    Ok(()) => self.admitted.push((at, site)),
                    Err(_) if greedy == Some(&site) => {}
                    Err(wait) => {
                        self.refused += 1;
                        assert!((SECOND..=Duration::from_secs(FURTHEST)).contains(&wait), "{wait:?}");
                        let spread = Duration::from_millis(u64::from(agent * 7919 % 1000));
                        let report = Duration::from_secs_f64(wait.as_secs_f64().ceil());
                        self.knocks.insert((at + report + spread, agent), (site, client));
                    }
                }
            }
            for second in 0..60 {
                let count = self.admitted.iter().filter(|(at, _)| at.as_secs() == second).count();
                assert!(count <= 2 * self.admissions.rate as usize, "{count} in second {second}");
            }
            self
        }

        fn last(&self, site: &SiteId) -> Duration {
            self.admitted.iter().filter(|(_, of)| of == site).map(|(at, _)| *at).max().unwrap()
        }
    }

    #[test]
    fn a_thousand_agents_are_in_after_some_ten_seconds_and_never_more_than_twice_the_rate_at_once() {
        let agents = Agents::new(100, (0..1000).map(|n| (site(n), client(n)))).run(None);
        assert_eq!(agents.admitted.len(), 1000);
        let last = agents.admitted.last().unwrap().0;
        assert!(last < Duration::from_secs(13), "{last:?}");
        assert!(agents.refused < 2000, "{} refusals for 1000 agents", agents.refused);
    }

    #[test]
    fn a_key_that_knocks_without_end_keeps_no_agent_of_another_site_out() {
        let [greedy, other] = [site(1_000_000), site(1)];
        let agents = Agents::new(100, [(other.clone(), client(1))]);
        let agents = agents.with_greedy(&greedy, Duration::from_millis(1), 10).run(Some(&greedy));
        assert!(agents.last(&other) < Duration::from_secs(5), "{:?}", agents.last(&other));
        let of_greedy = agents.admitted.iter().filter(|(_, of)| *of == greedy).count();
        assert!(of_greedy <= 10 * 10 + PLACES_PER_SITE, "{of_greedy} tunnels of the greedy site");
    }

    /// The two thousand agents of one site come back at once, and so does the greedy key.
    #[test]
    fn after_a_restart_the_agents_of_one_site_and_a_greedy_key_keep_no_other_site_out() {
        let [greedy, large, other] = [site(1_000_000), site(2), site(1)];
        let crowd = (0..2000).map(|n| (large.clone(), client(n)));
        let agents = Agents::new(100, crowd.chain([(other.clone(), client(5000))]));
        let agents = agents.with_greedy(&greedy, Duration::from_millis(1), 10).run(Some(&greedy));
        assert!(agents.last(&other) < Duration::from_secs(5), "{:?}", agents.last(&other));
    }

    #[test]
    fn one_client_leaves_a_quarter_of_the_rate_to_others() {
        let admissions = Admissions::new(100);
        let now = admissions.start;
        let of_one = (0..100).filter(|n| admissions.admit(&site(*n), client(1), now).is_ok()).count();
        assert_eq!(of_one, 75);
        assert!(admissions.admit(&site(200), client(2), now).is_ok());
    }

    #[test]
    fn a_place_that_was_given_away_is_kept() {
        let admissions = Admissions::new(2);
        let now = admissions.start;
        for number in [1, 2] {
            assert!(admissions.admit(&site(number), client(number), now).is_ok());
        }
        let wait =
            |number, at| admissions.admit(&site(number), client(number), at).map_err(|wait| wait.as_secs());
        assert_eq!([wait(3, now), wait(4, now), wait(5, now)], [Err(1), Err(1), Err(2)]);
        let next = now + SECOND;
        assert_eq!(wait(6, next), Err(1), "others fill no place of a second that is given away");
        assert_eq!([wait(4, next), wait(3, next)], [Ok(()), Ok(())]);
        let late = now + Duration::from_secs(2 + KEPT_FOR);
        assert_eq!(wait(5, late), Ok(()));
    }

    #[test]
    fn even_the_slowest_relay_admits() {
        let admissions = Admissions::new(1);
        let now = admissions.start;
        assert!(admissions.admit(&site(1), client(1), now).is_ok());
        assert!(admissions.admit(&site(1), client(1), now).is_err());
        assert!(admissions.admit(&site(1), client(1), now + SECOND).is_ok());
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let admissions = Admissions::new(10);
        for number in 0..1000 {
            let _ = admissions.admit(&site(number), client(number), admissions.start);
        }
        let later = admissions.start + Duration::from_secs(FURTHEST + KEPT_FOR + 1);
        assert!(admissions.admit(&site(1), client(1), later).is_ok());
        let state = admissions.state.lock();
        assert_eq!((state.seconds.len(), state.places.len()), (1, 0));
    }
}
