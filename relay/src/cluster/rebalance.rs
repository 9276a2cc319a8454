//! Moves agents to peer relays: all of them when this relay stops, some when it has more than its share.
//!
//! Each agent is asked to dial again at once, and few at a time. So every site is without a tunnel for only a moment,
//! and the peers can admit agents as they come.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::{
    cluster::{AgentSlot, Balance, Cluster},
    tunnel::{registry::Registry, session::Session},
};

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
        // A listener would hear a pause, so only idle agents are moved; there are enough of them.
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
