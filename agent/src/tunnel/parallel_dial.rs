//! Dials a parallel tunnel when a tunnel has fallen silent: after a network failure, a new connection works seconds
//! before the old TCP connection recovers.

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

/// The interval between two attempts: a network that works again is noticed after this time at the latest.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long to go on dialling. A longer failure is left to the backoff, which does not overload a relay that is gone.
const DIAL_WINDOW: Duration = Duration::from_secs(30);
/// Timeout of one connection attempt, and of the relay's welcome: a dozen round trips to another continent.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that is needed to dial a new tunnel.
#[derive(Clone)]
pub(super) struct Fresh {
    pub(super) dialler: Arc<Dialler>,
    pub(super) hello: Hello,
    pub(super) config: Arc<TunnelConfig>,
    pub(super) router: Router,
}

impl Fresh {
    /// Dials, and sends HELLO.
    pub(super) async fn dial(self) -> Result<Tunnel, ConnectError> {
        let connection = self.dialler.dial().await?;
        Ok(Tunnel::begin(self, connection))
    }

    /// Dials without sending HELLO; `None` if it takes too long.
    async fn connect(self) -> Option<Result<Connection, ConnectError>> {
        tokio::time::timeout(DIAL_TIMEOUT, self.dialler.dial()).await.ok()
    }

    /// Sends HELLO. `None` if the relay does not welcome the tunnel in time.
    async fn greet(self, connection: Connection) -> Option<Tunnel> {
        let tunnel = Tunnel::begin(self, connection);
        tunnel.is_welcomed(DIAL_TIMEOUT).await.then_some(tunnel)
    }
}

/// The first new tunnel that the relay welcomes. `None` if the silent one receives data again or has ended, if the
/// relay refuses, or after [`DIAL_WINDOW`].
///
/// Several connections may be in progress when the network works again, but HELLO is sent on one at a time: for the
/// relay, the tunnel with the latest HELLO is the agent's, and replaces the one before.
pub(super) async fn dial_beside(fresh: Fresh, silence: &mut watch::Receiver<bool>) -> Option<Tunnel> {
    tracing::warn!(code = "tunnel.silent", "the relay is silent; dialling a second tunnel");
    let until = Instant::now() + DIAL_WINDOW;
    let mut attempts = JoinSet::new();
    // Thousands of agents may find one relay silent at the same moment.
    let first = Instant::now() + between(Duration::ZERO, DIAL_INTERVAL);
    let mut ticks = interval_at(first, DIAL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            heard = async { silence.wait_for(|silent| !silent).await.is_ok() } => {
                if heard {
                    tracing::info!(
                        code = "tunnel.responds_again",
                        "the relay responds again; the tunnel stays"
                    );
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
                    tracing::info!(
                        %error,
                        code = "tunnel.second_refused",
                        "the relay refused the second tunnel"
                    );
                    return None;
                }
                Ok(None | Some(Err(_))) | Err(_) => {}
            }
        }
    }
}
