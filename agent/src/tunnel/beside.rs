//! Dials beside a tunnel that has fallen silent: after a break of the line, TCP finds its way back seconds later than a new
//! connection does.

use std::{sync::Arc, time::Duration};

use audiovault_protocol::message::Hello;
use axum::Router;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    TunnelConfig,
    backoff::between,
    connect::{ConnectError, Connection, Dialler},
    supervisor::Tunnel,
};

/// How often another connection is dialled: so long after a line is back it is noticed at the latest.
const EVERY: Duration = Duration::from_secs(1);
/// For how long. A break that lasts longer is one for the backoff, which spares a relay that is gone.
const FOR: Duration = Duration::from_secs(30);
/// How long one connection may take to be made, and how long the relay's welcome: a dozen round trips to another
/// continent.
const EACH: Duration = Duration::from_secs(5);

/// What is dialled with.
#[derive(Clone)]
pub(super) struct Fresh {
    pub(super) dialler: Arc<Dialler>,
    pub(super) hello: Hello,
    pub(super) config: Arc<TunnelConfig>,
    pub(super) router: Router,
}

impl Fresh {
    /// Dials, and greets.
    pub(super) async fn dial(self) -> Result<Tunnel, ConnectError> {
        let connection = self.dialler.dial().await?;
        Ok(Tunnel::begin(self, connection))
    }

    /// A connection, not greeted yet; none if it takes too long.
    async fn connect(self) -> Option<Result<Connection, ConnectError>> {
        tokio::time::timeout(EACH, self.dialler.dial()).await.ok()
    }

    /// A tunnel that the relay has welcomed; none if it does not in time.
    async fn greet(self, connection: Connection) -> Option<Tunnel> {
        let tunnel = Tunnel::begin(self, connection);
        tunnel.is_welcomed(EACH).await.then_some(tunnel)
    }
}

/// The first fresh tunnel that the relay welcomes. None where the silent one speaks again or has ended, where the relay
/// answers with a refusal, or after [`FOR`].
///
/// Many connections may be on their way when the line comes back, but one is greeted at a time: to the relay, whoever
/// greets last is the agent, and takes the place of the one before.
pub(super) async fn dial_beside(fresh: Fresh, silence: &mut watch::Receiver<bool>) -> Option<Tunnel> {
    tracing::warn!("the relay is silent; dialling beside the tunnel");
    let until = Instant::now() + FOR;
    let mut attempts = JoinSet::new();
    // Thousands of agents may find one relay silent in the same moment.
    let first = Instant::now() + between(Duration::ZERO, EVERY);
    let mut ticks = interval_at(first, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = async { silence.wait_for(|silent| !silent).await.is_ok() } => {
                if heard {
                    tracing::info!("the relay is heard again; the tunnel stays");
                }
                return None;
            }
            () = sleep_until(until) => return None,
            _ = ticks.tick() => {
                attempts.spawn(fresh.clone().connect());
            }
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Some(Ok(connection))) => {
                    if let Some(tunnel) = fresh.clone().greet(connection).await {
                        return Some(tunnel);
                    }
                }
                Ok(Some(Err(error))) if error.is_refusal() => {
                    tracing::info!(%error, "the relay takes no tunnel beside the silent one");
                    return None;
                }
                Ok(None | Some(Err(_))) | Err(_) => {}
            }
        }
    }
}
