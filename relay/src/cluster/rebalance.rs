//! Moves agents to peer relays: all of them when this relay stops, some when it has more than its share.
//!
//! Each agent is asked to dial again at once, and few at a time. So every site is without a tunnel for only a moment,
//! and the peers can admit agents as they come.
//!
//! [`Balance`] decides how many agents a relay moves to its peers so that all relays have a similar number, for
//! example after one of them was started. It is pure, and it cannot oscillate. Only a relay that has clearly more than
//! the mean moves any agents, it never moves more than its surplus over the mean, it moves few at a time, and it moves
//! no agent twice within an hour, even if the load balancer sends it back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Cluster;
use crate::tunnel::{registry::Registry, session::Session};

/// How often a portion of agents is asked to leave.
const MOVE_INTERVAL: Duration = Duration::from_millis(250);
/// Window in which the agents of a portion dial again, in milliseconds.
const AT_ONCE_MS: [u64; 2] = [0, 250];
/// How often this relay checks whether it has more than its share: long enough for moved agents to have arrived.
const BALANCE_INTERVAL: Duration = Duration::from_secs(5);

/// Moves all agents away, `per_second` each second, for at most the time `most`; then the rest at once.
pub async fn all(registry: &Registry, reason: &str, per_second: u32, most: Duration) {
    let portion = usize::try_from(per_second / 4).unwrap_or(usize::MAX).max(1);
    let portions = async {
        loop {
            let agents = registry.idlest_first();
            if agents.is_empty() {
                return;
            }
            agents.iter().take(portion).for_each(|session| session.leave(reason, AT_ONCE_MS));
            sleep(MOVE_INTERVAL).await;
        }
    };
    if timeout(most, portions).await.is_err() {
        registry.leave_all(reason, per_second);
    }
}

/// Moves agents away while peer relays have fewer, for as long as this relay runs.
pub async fn balance(registry: Arc<Registry>, cluster: Arc<Cluster>) {
    let mut balance = Balance::default();
    let mut ticks = interval(BALANCE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let others = cluster.counts();
        let agents = registry.idlest_first();
        let surplus = Balance::surplus(agents.len(), &others);
        if surplus == 0 {
            continue;
        }
        // A listener would notice a pause, so only idle agents are moved; there are enough of them.
        let idle = agents.iter().filter(|session| session.caller.open_streams() == 0);
        let chosen = balance.choose(idle.clone().map(|session| slot(session)), surplus, Instant::now());
        if chosen.is_empty() {
            continue;
        }
        tracing::info!(
            agents = chosen.len(),
            own = agents.len(),
            ?others,
            code = "cluster.rebalancing",
            "moving agents to peer relays"
        );
        idle.filter(|session| chosen.contains(&slot(session)))
            .for_each(|session| session.leave("another relay has room", AT_ONCE_MS));
    }
}

fn slot(session: &Session) -> AgentSlot {
    (session.hello.instance.clone(), session.hello.slot)
}

/// One connection of an agent: the agent's run, and the slot of the connection.
pub type AgentSlot = (String, u16);

/// How long an agent that was moved stays where it is.
pub const MOVED_FOR: Duration = Duration::from_secs(3600);
/// An excess over the mean up to this many tunnels is not worth a move.
const LEAST: usize = 2;
/// The same as a share of the mean: one tenth.
const TOLERANCE: usize = 10;
/// The share of its own tunnels that a relay moves at a time: one twentieth.
const PORTION: usize = 20;

/// Which agents were moved, and when.
#[derive(Debug, Default)]
pub struct Balance {
    moved: HashMap<AgentSlot, Instant>,
}

impl Balance {
    /// How many of its own tunnels a relay should move now. `others` has the number of tunnels of each peer relay.
    pub fn surplus(own: usize, others: &[usize]) -> usize {
        let mean = (own + others.iter().sum::<usize>()).div_ceil(others.len() + 1);
        let allowed = mean + LEAST.max(mean / TOLERANCE);
        if own <= allowed { 0 } else { (own - mean).min((own / PORTION).max(1)) }
    }

    /// The first of these agents, at most `most`, that may be moved. They count as moved from now on.
    pub fn choose(
        &mut self,
        agents: impl IntoIterator<Item = AgentSlot>,
        most: usize,
        now: Instant,
    ) -> Vec<AgentSlot> {
        self.moved.retain(|_, moved| now.duration_since(*moved) < MOVED_FOR);
        let chosen: Vec<_> =
            agents.into_iter().filter(|agent| !self.moved.contains_key(agent)).take(most).collect();
        self.moved.extend(chosen.iter().map(|agent| (agent.clone(), now)));
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_clearly_more_than_the_mean_hands_some_over() {
        assert_eq!(Balance::surplus(0, &[]), 0);
        assert_eq!(Balance::surplus(1000, &[]), 0, "there is no other relay");
        assert_eq!(Balance::surplus(1000, &[0]), 50, "a twentieth at a time");
        assert_eq!(Balance::surplus(560, &[440]), 28);
        assert_eq!(Balance::surplus(549, &[451]), 0, "within a tenth");
        assert_eq!(Balance::surplus(10, &[0]), 1);
        assert_eq!(Balance::surplus(6, &[2]), 0, "two more are not worth a move");
        assert_eq!(Balance::surplus(300, &[300, 0]), 15);
        assert_eq!(Balance::surplus(0, &[1000]), 0);
    }

    #[test]
    fn a_cluster_comes_to_rest_with_moved_agents_at_any_relay() {
        // Where the next agent lands: at the relay with the fewest, at each in turn, or back where it was.
        for policy in 0..3 {
            let mut tunnels: [Vec<u16>; 3] = [(0..900).collect(), (900..1200).collect(), Vec::new()];
            let mut turn = 0;
            let mut moves = 0;
            let mut rest = 0;
            let mut balances = [Balance::default(), Balance::default(), Balance::default()];
            let now = Instant::now();
            while rest < 3 {
                let at = turn % 3;
                turn += 1;
                let others: Vec<_> =
                    (0..3).filter(|other| *other != at).map(|other| tunnels[other].len()).collect();
                let surplus = Balance::surplus(tunnels[at].len(), &others);
                let agents = tunnels[at].iter().map(|slot| (String::new(), *slot));
                let chosen = balances[at].choose(agents, surplus, now);
                rest = if chosen.is_empty() { rest + 1 } else { 0 };
                for (_, slot) in chosen {
                    tunnels[at].retain(|other| *other != slot);
                    moves += 1;
                    let least = (0..3).min_by_key(|other| tunnels[*other].len()).unwrap();
                    tunnels[[least, moves % 3, at][policy]].push(slot);
                }
            }
            // An agent that is sent back to where it was moves once; otherwise there are few more moves than needed.
            assert!(moves <= [500, 1200, 900][policy], "policy {policy}: {moves} moves");
            let lens = tunnels.each_ref().map(Vec::len);
            if policy < 2 {
                assert!(lens.iter().all(|len| (320..=450).contains(len)), "policy {policy}: {lens:?}");
            }
        }
    }

    #[test]
    fn an_agent_that_was_moved_stays_for_an_hour() {
        let mut balance = Balance::default();
        let now = Instant::now();
        let agents = || [("a".to_owned(), 0), ("a".to_owned(), 1), ("b".to_owned(), 0)];
        assert_eq!(balance.choose(agents(), 2, now).len(), 2);
        assert_eq!(balance.choose(agents(), 2, now), [("b".to_owned(), 0)]);
        assert!(balance.choose(agents(), 2, now).is_empty());
        assert_eq!(balance.choose(agents(), 9, now + MOVED_FOR).len(), 3);
    }
}
