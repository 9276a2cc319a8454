//! The outbound tunnel: dial, serve, back off, dial again, for ever.

mod backoff;
mod connect;
mod identity;

use std::{
    convert::Infallible,
    error::Error as _,
    time::{Duration, Instant},
};

use audiovault_protocol::{
    link::{AgentControl, AgentLink, Close, Ended, LinkState},
    message::{CloseCode, Goaway, Status},
    signed_link::LinkKeyId,
    site::SiteKey,
};
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use url::Url;

use self::{
    backoff::{Backoff, LASTED, between},
    connect::{ConnectError, Dialler, Retry},
    identity::Identity,
};
use crate::{
    reach::{NetworkSettings, TrustError},
    state::{HEARTBEAT, StateFile},
};

/// How long an agent that shuts down lets running downloads finish.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Added to the backoff when somebody must change something first: there is no hurry, but whoever makes the change
/// looks whether it helped.
const AFTER_CHANGE: Duration = Duration::from_secs(5);
/// Spreads agents that were told the same moment.
const RETRY_AFTER_SPREAD: Duration = Duration::from_secs(1);

/// Where to dial and as whom.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// The relay: `ws://`, `wss://`, `http://` or `https://`, with or without a path.
    pub relay: Url,
    /// Proves the site.
    pub site_key: SiteKey,
    /// How to get out.
    pub network: NetworkSettings,
    /// Announced in HELLO so that links come back to an agent that can open them.
    pub link_key_id: LinkKeyId,
    /// Names of the tenants served, for the relay's information.
    pub tenants: Vec<String>,
    /// How the recordings are; every new value is sent to the relay.
    pub status: watch::Receiver<Status>,
    /// Where to leave word of being connected, for health checks.
    pub state_file: Option<StateFile>,
}

/// Why the tunnel cannot even be attempted; everything else is retried for ever.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The relay's address names no host, or a scheme that is none of a relay's.
    #[error("the relay's address must be wss://HOST[:PORT], or ws:// on a trusted network")]
    NoHost,
    /// The certificate authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Serves `service` through the tunnel until `shutdown`, then lets running downloads finish.
///
/// # Errors
/// [`TunnelError`] when the configuration cannot be used at all.
pub async fn run(
    config: TunnelConfig,
    service: Router,
    shutdown: CancellationToken,
) -> Result<(), TunnelError> {
    let dialler = Dialler::new(&config)?;
    let identity = Identity::new(&config);
    let mut supervisor = Supervisor {
        dialler,
        identity,
        service,
        shutdown,
        status: config.status,
        state_file: config.state_file,
        backoff: Backoff::new(),
        old: JoinSet::new(),
    };
    supervisor.run().await;
    Ok(())
}

/// How one tunnel let go of the supervisor.
enum Outcome {
    Ended(Ended),
    Leaving(Goaway, JoinHandle<Ended>),
    Shutdown,
}

struct Supervisor {
    dialler: Dialler,
    identity: Identity,
    service: Router,
    shutdown: CancellationToken,
    status: watch::Receiver<Status>,
    state_file: Option<StateFile>,
    backoff: Backoff,
    /// Tunnels that the relay is closing while downloads finish on them.
    old: JoinSet<()>,
}

impl Supervisor {
    async fn run(&mut self) {
        let shutdown = self.shutdown.clone();
        loop {
            let Some(wait) = self.attempt().await else { break };
            while self.old.try_join_next().is_some() {}
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { while self.old.join_next().await.is_some() {} })
            .await;
    }

    /// Dials once and serves what comes of it. How long to wait before the next attempt, or `None` after a
    /// shutdown.
    async fn attempt(&mut self) -> Option<Duration> {
        let dialled = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            dialled = self.dialler.dial() => dialled,
        };
        let (socket, traffic) = match dialled {
            Ok(connected) => connected,
            Err(error) => {
                self.tell_health(false);
                return Some(self.after_failure(&error));
            }
        };
        let start = Instant::now();
        let (link, control) = AgentLink::new(self.identity.hello(), bytes_service(self.service.clone()));
        let task = tokio::spawn(link.run(socket, traffic));
        let outcome = self.attend(task, &control).await;
        self.tell_health(false);
        if start.elapsed() >= LASTED {
            self.backoff.reset();
        }
        match outcome {
            Outcome::Shutdown => None,
            Outcome::Leaving(goaway, task) => {
                let [least, most] = goaway.reconnect_after_ms.map(Duration::from_millis);
                let wait = between(least, most);
                tracing::info!(
                    reason = goaway.reason,
                    wait_ms = wait.as_millis(),
                    "the relay asks to dial again"
                );
                self.old.spawn(async move { drop(task.await) });
                Some(wait)
            }
            Outcome::Ended(ended) => {
                let wait = self.backoff.next();
                let cause = ended.source().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%ended, cause, wait_ms = wait.as_millis(), "the tunnel ended; dialling again");
                Some(wait)
            }
        }
    }

    /// Watches one tunnel until it ends, is to be replaced, or the agent shuts down.
    async fn attend(&self, mut task: JoinHandle<Ended>, control: &AgentControl) -> Outcome {
        let (mut state, mut status) = (control.state(), self.status.clone());
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        control.set_status(status.borrow_and_update().clone());
        loop {
            tokio::select! {
                ended = &mut task => return Outcome::Ended(ended.unwrap_or_else(|_| crashed())),
                () = self.shutdown.cancelled() => {
                    drain(task, control).await;
                    return Outcome::Shutdown;
                }
                Ok(()) = status.changed() => control.set_status(status.borrow_and_update().clone()),
                _ = heartbeat.tick() => self.tell_health(is_welcomed(control)),
                Ok(()) = state.changed() => match state.borrow_and_update().clone() {
                    LinkState::Greeting => {}
                    LinkState::Welcomed(welcome) => {
                        tracing::info!(
                            session = welcome.session,
                            relay = welcome.relay_version,
                            links = welcome.base_url,
                            "connected"
                        );
                        self.tell_health(true);
                    }
                    LinkState::Leaving(goaway) => return Outcome::Leaving(goaway, task),
                },
            }
        }
    }

    fn tell_health(&self, connected: bool) {
        if let Some(file) = &self.state_file {
            file.write(connected);
        }
    }

    fn after_failure(&mut self, error: &ConnectError) -> Duration {
        let cause = causes(error);
        match error.retry() {
            Retry::Backoff => {
                let wait = self.backoff.next();
                tracing::warn!(%error, cause, wait_ms = wait.as_millis(), "not connected; dialling again");
                wait
            }
            Retry::After(after) => {
                let wait = after + between(Duration::ZERO, RETRY_AFTER_SPREAD);
                tracing::info!(%error, wait_ms = wait.as_millis(), "not connected; dialling again when asked to");
                wait
            }
            Retry::AfterChange => {
                let wait = AFTER_CHANGE + self.backoff.next();
                tracing::error!(
                    %error,
                    cause,
                    wait_ms = wait.as_millis(),
                    "not connected, and waiting will not help"
                );
                wait
            }
        }
    }
}

/// What lies behind an error, in one line.
fn causes(error: &ConnectError) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Says goodbye and waits until the relay has closed the tunnel.
async fn drain(mut task: JoinHandle<Ended>, control: &AgentControl) {
    tracing::info!(downloads = control.open_streams(), "shutting down: waiting for running downloads");
    control.go_away(Goaway { reason: "the agent is shutting down".to_owned(), reconnect_after_ms: [0, 0] });
    if tokio::time::timeout(DRAIN_TIMEOUT, &mut task).await.is_err() {
        tracing::warn!("downloads still run after {} s; cutting them", DRAIN_TIMEOUT.as_secs());
        task.abort();
    }
}

fn is_welcomed(control: &AgentControl) -> bool {
    matches!(*control.state().borrow(), LinkState::Welcomed(_))
}

fn crashed() -> Ended {
    Ended::ByUs(Close::new(CloseCode::Other(1011), "the tunnel's task failed inside"))
}

/// The agent's router as the link calls it.
fn bytes_service(
    router: Router,
) -> impl Service<Request<Bytes>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    router.into_service().map_request(|request: Request<Bytes>| request.map(Body::from))
}
