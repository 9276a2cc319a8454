//! Agents that were connected a moment ago: requests wait for their return instead of being refused.

use std::time::Duration;

use audiovault_protocol::identity::signed_link::LinkKeyId;
use tokio::time::Instant;

/// How long requests wait for an agent whose tunnel broke. The agent dials again after half a second on average, and
/// is admitted even if others dial at the same time. If an agent needs longer, an error is better than more waiting.
pub(crate) const RETURN_TIME: Duration = Duration::from_secs(8);

/// Most absent agents of one site that are remembered at a time. A site has a few; if there are more, the oldest is
/// dropped.
const MOST: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Missed {
    /// `None` if nothing is known except that the site was connected.
    key: Option<LinkKeyId>,
    until: Instant,
}

/// The agents of one site that should be back soon.
#[derive(Debug, Default)]
pub(crate) struct Absence(Vec<Missed>);

impl Absence {
    /// Notes that an agent has gone that should be back by `until`. Without a key, it may be any agent.
    pub(crate) fn miss(&mut self, key: Option<LinkKeyId>, until: Instant, now: Instant) {
        self.0.retain(|missed| missed.until > now);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Missed { key, until });
    }

    /// Notes that an agent has come. If several with the same key were absent, it counts as one of them.
    pub(crate) fn came(&mut self, key: LinkKeyId) {
        let known = self.0.iter().position(|missed| missed.key == Some(key));
        if let Some(at) = known.or_else(|| self.0.iter().position(|missed| missed.key.is_none())) {
            self.0.remove(at);
        }
    }

    /// Until when requests may wait for an agent with this key, or for any agent if `key` is `None`.
    pub(crate) fn until(&self, key: Option<LinkKeyId>, now: Instant) -> Option<Instant> {
        let matches = |missed: &&Missed| key.is_none() || missed.key.is_none() || missed.key == key;
        self.0.iter().filter(matches).map(|missed| missed.until).filter(|until| *until > now).max()
    }
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::identity::signed_link::{LinkSecret, LinkSigner};

    use super::*;

    fn key(byte: u8) -> LinkKeyId {
        LinkSigner::new(&LinkSecret::from_bytes([byte; 32])).key_id()
    }

    #[test]
    fn an_agent_is_waited_for_until_it_comes_or_its_time_is_over() {
        let now = Instant::now();
        let soon = now + RETURN_TIME;
        let later = now + 2 * RETURN_TIME;
        let mut absence = Absence::default();
        assert_eq!(absence.until(None, now), None);
        absence.miss(Some(key(1)), soon, now);
        absence.miss(Some(key(2)), later, now);
        assert_eq!(absence.until(None, now), Some(later), "any will do");
        assert_eq!(absence.until(Some(key(1)), now), Some(soon));
        assert_eq!(absence.until(Some(key(3)), now), None, "nobody with this key was here");
        assert_eq!(absence.until(Some(key(1)), soon), None);
        absence.came(key(2));
        assert_eq!(absence.until(None, now), Some(soon));
    }

    #[test]
    fn after_a_start_whoever_comes_is_one_of_those_that_were_here() {
        let now = Instant::now();
        let mut absence = Absence::default();
        absence.miss(None, now + RETURN_TIME, now);
        assert!(absence.until(Some(key(1)), now).is_some(), "it may be the one that holds this key");
        absence.came(key(2));
        assert_eq!(absence.until(Some(key(1)), now), None);
    }

    #[test]
    fn a_site_that_loses_agents_without_end_keeps_few_of_them() {
        let now = Instant::now();
        let mut absence = Absence::default();
        for _ in 0..10 * MOST {
            absence.miss(Some(key(1)), now + RETURN_TIME, now);
        }
        assert_eq!(absence.0.len(), MOST);
        absence.miss(None, now + 3 * RETURN_TIME, now + 2 * RETURN_TIME);
        assert_eq!(absence.0.len(), 1);
    }
}
