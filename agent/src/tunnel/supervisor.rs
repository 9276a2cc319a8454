//! Keeps one tunnel up: dials, serves, waits, and dials again.
//!
//! When a tunnel has fallen silent, it dials a second one: after a network failure, a new connection works seconds
//! before the old TCP connection recovers.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use audiovault_common::{
    advice::{with_advice, without_causes},
    error_chain::causes_in_one_line,
};
use audiovault_protocol::{
    link::{AgentControl, AgentLink, Close, Ended, LinkState},
    message::{CloseCode, Goaway, Hello, Welcome},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Run, Shared, TunnelConfig,
    backoff::{Backoff, LASTED, between},
    connect::{ConnectError, Connection, Dialler, Retry},
    states::{TunnelName, TunnelState},
};
use crate::http::Current;

/// How long an agent that shuts down waits for running downloads to finish.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Added to the backoff if a person must change something first. There is no hurry, but the person who makes the
/// change wants to see whether it helped.
const AFTER_CHANGE: Duration = Duration::from_secs(5);
/// Spreads the retries of agents that were given the same time.
const RETRY_AFTER_SPREAD: Duration = Duration::from_secs(1);
/// How long a relay may take to welcome a new tunnel while another one works.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between two attempts: a network that works again is noticed after this time at the latest.
const DIAL_INTERVAL: Duration = Duration::from_secs(1);
/// How long to go on dialling. A longer failure is left to the backoff, which does not overload a relay that is gone.
const DIAL_WINDOW: Duration = Duration::from_secs(30);
/// Timeout of one connection attempt, and of the relay's welcome: a dozen round trips to another continent.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Supervisor {
    name: TunnelName,
    run: Run,
    shared: Shared,
    backoff: Backoff,
    dialler: Option<(Arc<TunnelConfig>, Arc<Dialler>)>,
    /// Tunnels on which downloads finish before the relay closes them.
    old: JoinSet<()>,
}

impl Supervisor {
    pub(super) fn new(name: TunnelName, run: Run, shared: Shared) -> Self {
        Self { name, run, shared, backoff: Backoff::new(), dialler: None, old: JoinSet::new() }
    }

    pub(super) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        let mut config = self.shared.config.clone();
        loop {
            config.mark_unchanged();
            let Some(wait) = self.attempt().await else { break };
            while self.old.try_join_next().is_some() {}
            tokio::select! {
                () = shutdown.cancelled() => break,
                // A new configuration is tried at once, so that the admin sees whether it helped.
                Ok(()) = config.changed() => {}
                () = sleep(wait) => {}
            }
        }
        let _ = timeout(DRAIN_TIMEOUT, async { while self.old.join_next().await.is_some() {} }).await;
    }

    /// Dials once and serves the tunnel. Returns how long to wait before the next attempt, or `None` after a
    /// shutdown.
    async fn attempt(&mut self) -> Option<Duration> {
        self.publish(TunnelState::Dialling);
        let shutdown = self.shared.shutdown.clone();
        let dialled = tokio::select! {
            () = shutdown.cancelled() => return None,
            dialled = self.dial(false) => dialled,
        };
        let mut tunnel = match dialled {
            Ok(tunnel) => tunnel,
            Err(error) => {
                let wait = self.after_failure(&error);
                self.publish(TunnelState::Waiting { reason: with_advice(&error), wait });
                return Some(wait);
            }
        };
        let outcome = loop {
            if let Some(outcome) = self.attend(&mut tunnel).await {
                break outcome;
            }
        };
        if tunnel.began.elapsed() >= LASTED {
            self.backoff.reset();
        }
        let (reason, wait) = match outcome {
            Outcome::Shutdown => {
                drain(tunnel, "the agent is shutting down").await;
                return None;
            }
            Outcome::Leaving(goaway) => {
                let [least, most] = goaway.reconnect_after_ms.map(Duration::from_millis);
                let wait = between(least, most);
                let reason = &goaway.reason;
                let wait_ms = wait.as_millis();
                tracing::info!(
                    reason,
                    wait_ms,
                    code = "tunnel.asked_to_redial",
                    "the relay asks to dial again"
                );
                self.old.spawn(async move { drop(tunnel.task.await) });
                (goaway.reason, wait)
            }
            Outcome::Ended(ended) => {
                let broke = matches!(ended, Ended::Broken(_)) && tunnel.was_welcomed();
                let wait = if broke { self.backoff.next_after_break() } else { self.backoff.next() };
                let cause = causes_in_one_line(&ended).unwrap_or_default();
                tracing::warn!(
                    %ended,
                    cause,
                    wait_ms = wait.as_millis(),
                    code = "tunnel.ended",
                    "the tunnel ended; dialling again"
                );
                (ended.to_string(), wait)
            }
        };
        self.publish(TunnelState::Waiting { reason, wait });
        Some(wait)
    }

    /// Dials a tunnel. `drains` says whether an earlier tunnel is finishing its open streams.
    async fn dial(&mut self, drains: bool) -> Result<Tunnel, ConnectError> {
        self.fresh(drains)?.dial().await
    }

    /// Everything that is needed to dial a tunnel now.
    fn fresh(&mut self, drains: bool) -> Result<Fresh, ConnectError> {
        let config = Arc::clone(&self.shared.config.borrow());
        let hello = self.run.hello(self.name.slot, &config, &self.shared.service.load());
        let dialler = self.dialler(&config)?;
        Ok(Fresh { dialler, hello: Hello { drains, ..hello }, config, service: self.shared.service.clone() })
    }

    /// The dialler for this configuration; created again if the configuration has changed.
    fn dialler(&mut self, config: &Arc<TunnelConfig>) -> Result<Arc<Dialler>, ConnectError> {
        if let Some((made_for, dialler)) = &self.dialler
            && Arc::ptr_eq(made_for, config)
        {
            return Ok(Arc::clone(dialler));
        }
        let dialler = Arc::new(Dialler::new(&self.name.relay, config)?);
        if let Some(proxy) = dialler.proxy() {
            tracing::info!(
                proxy,
                relay = %self.name.relay,
                code = "tunnel.proxy",
                "connecting through a proxy"
            );
        }
        self.dialler = Some((Arc::clone(config), Arc::clone(&dialler)));
        Ok(dialler)
    }

    /// Serves one tunnel until it ends or the agent shuts down. `None` if another tunnel has replaced it.
    async fn attend(&mut self, tunnel: &mut Tunnel) -> Option<Outcome> {
        let mut status = self.shared.status.clone();
        let mut config = self.shared.config.clone();
        let mut service = self.shared.service.follow();
        let mut state = tunnel.control.state();
        let mut silence = tunnel.control.silence();
        // Changes while the tunnel was dialled count as well.
        config.mark_changed();
        status.mark_changed();
        loop {
            tokio::select! {
                // Messages of a tunnel are handled before its end: the relay may have asked to dial again and then
                // ended it.
                biased;
                () = self.shared.shutdown.cancelled() => return Some(Outcome::Shutdown),
                Ok(()) = state.changed() => match state.borrow_and_update().clone() {
                    LinkState::Greeting => {}
                    LinkState::Welcomed(welcome) => self.welcomed(&welcome, tunnel),
                    LinkState::Leaving(goaway) => return Some(Outcome::Leaving(goaway)),
                },
                ended = &mut tunnel.task => {
                    return Some(Outcome::Ended(ended.unwrap_or_else(|_| crashed())));
                }
                Ok(()) = status.changed() => {
                    tunnel.control.set_status(status.borrow_and_update().clone());
                }
                Ok(()) = config.changed() => {
                    config.mark_unchanged();
                    if self.replace_if_changed(tunnel).await {
                        return None;
                    }
                }
                Ok(()) = silence.changed() => if *silence.borrow_and_update()
                    && self.replace_silent(tunnel, &mut silence).await
                {
                    return None;
                },
                Ok(()) = service.changed() => {
                    service.mark_unchanged();
                    config.mark_changed();
                }
            }
        }
    }

    fn welcomed(&self, welcome: &Welcome, tunnel: &Tunnel) {
        let session = &welcome.session;
        let relay = &welcome.relay_version;
        tracing::info!(session, relay, links = welcome.base_url, code = "tunnel.connected", "connected");
        let session = session.clone();
        let control = tunnel.control.clone();
        self.publish(TunnelState::Connected { session, since: SystemTime::now(), control });
    }

    /// If the tunnel's HELLO or key is out of date, dials a new tunnel that takes over. The old one finishes its open
    /// streams, and stays if the new one cannot connect. Returns whether the tunnel was replaced.
    async fn replace_if_changed(&mut self, tunnel: &mut Tunnel) -> bool {
        let config = Arc::clone(&self.shared.config.borrow());
        let hello = self.run.hello(self.name.slot, &config, &self.shared.service.load());
        if tunnel.says(&hello) && config.has_key_of(&tunnel.config) {
            return false;
        }
        match self.dial_anew().await {
            Ok(fresh) => {
                tracing::info!(
                    code = "tunnel.reconfigured",
                    "a new tunnel with the new configuration takes over"
                );
                let old = std::mem::replace(tunnel, fresh);
                self.old.spawn(drain(old, "another tunnel of the same agent has taken over"));
                true
            }
            Err(reason) => {
                tracing::error!(
                    reason,
                    code = "tunnel.reconfiguration_failed",
                    "cannot connect with the new configuration; the old tunnel stays"
                );
                false
            }
        }
    }

    /// Dials while the tunnel is silent, and keeps the first of the two from which data comes. Open streams of a
    /// silent tunnel that is replaced are cut, and the relay requests them again.
    async fn replace_silent(&mut self, tunnel: &mut Tunnel, silence: &mut watch::Receiver<bool>) -> bool {
        let Ok(fresh) = self.fresh(false) else { return false };
        let shutdown = self.shared.shutdown.clone();
        let fresh = tokio::select! {
            () = shutdown.cancelled() => None,
            fresh = dial_beside(fresh, silence) => fresh,
        };
        let Some(fresh) = fresh else { return false };
        tracing::info!(code = "tunnel.replaced", "a new tunnel has replaced the silent one");
        *tunnel = fresh;
        true
    }

    /// Dials a tunnel and waits until the relay has welcomed it; otherwise returns what is wrong.
    async fn dial_anew(&mut self) -> Result<Tunnel, String> {
        let tunnel = self.dial(true).await.map_err(|error| with_advice(&error))?;
        if tunnel.is_welcomed(WELCOME_TIMEOUT).await {
            return Ok(tunnel);
        }
        Err("the relay did not accept the new tunnel; its log says why".to_owned())
    }

    fn publish(&self, state: TunnelState) {
        self.shared.states.set(&self.name, state);
    }

    fn after_failure(&mut self, error: &ConnectError) -> Duration {
        let cause = causes_in_one_line(error).unwrap_or_default();
        let text = without_causes(error);
        match error.retry() {
            Retry::Backoff => {
                let wait = self.backoff.next();
                tracing::warn!(
                    error = text,
                    cause,
                    wait_ms = wait.as_millis(),
                    code = "tunnel.dial_failed",
                    "not connected; dialling again"
                );
                wait
            }
            Retry::After(after) => {
                let wait = after + between(Duration::ZERO, RETRY_AFTER_SPREAD);
                tracing::info!(
                    error = text,
                    wait_ms = wait.as_millis(),
                    code = "tunnel.dial_deferred",
                    "not connected; dialling again when allowed"
                );
                wait
            }
            Retry::AfterChange => {
                let wait = AFTER_CHANGE + self.backoff.next();
                tracing::error!(
                    error = text,
                    cause,
                    wait_ms = wait.as_millis(),
                    code = "tunnel.refused",
                    "not connected, and waiting will not help"
                );
                wait
            }
        }
    }
}

/// Why the supervisor stopped serving a tunnel.
enum Outcome {
    Ended(Ended),
    Leaving(Goaway),
    Shutdown,
}

/// A tunnel that was dialled. Dropping it ends the tunnel.
struct Tunnel {
    task: AbortOnDropHandle<Ended>,
    control: AgentControl,
    /// The HELLO that was sent, and the configuration with which the tunnel was dialled.
    hello: Hello,
    config: Arc<TunnelConfig>,
    began: Instant,
}

impl Tunnel {
    /// Sends HELLO through a new connection.
    fn begin(fresh: Fresh, (socket, traffic): Connection) -> Self {
        let Fresh { hello, config, service, .. } = fresh;
        let (link, control) = AgentLink::new(hello.clone(), service);
        let task = AbortOnDropHandle::new(tokio::spawn(link.run(socket, traffic)));
        Self { task, control, hello, config, began: Instant::now() }
    }

    /// Whether the relay welcomes the tunnel within this time.
    async fn is_welcomed(&self, within: Duration) -> bool {
        let mut state = self.control.state();
        let welcome = state.wait_for(|state| matches!(state, LinkState::Welcomed(_)));
        matches!(timeout(within, welcome).await, Ok(Ok(_)))
    }

    /// Whether the relay has welcomed it.
    fn was_welcomed(&self) -> bool {
        !matches!(*self.control.state().borrow(), LinkState::Greeting)
    }

    /// Whether this HELLO would say the same as the one that was sent in this tunnel.
    fn says(&self, hello: &Hello) -> bool {
        self.hello == Hello { drains: self.hello.drains, ..hello.clone() }
    }
}

/// Everything that is needed to dial a new tunnel.
#[derive(Clone)]
struct Fresh {
    dialler: Arc<Dialler>,
    hello: Hello,
    config: Arc<TunnelConfig>,
    service: Current,
}

impl Fresh {
    /// Dials, and sends HELLO.
    async fn dial(self) -> Result<Tunnel, ConnectError> {
        let connection = self.dialler.dial().await?;
        Ok(Tunnel::begin(self, connection))
    }

    /// Dials without sending HELLO; `None` if it takes too long.
    async fn connect(self) -> Option<Result<Connection, ConnectError>> {
        timeout(DIAL_TIMEOUT, self.dialler.dial()).await.ok()
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
async fn dial_beside(fresh: Fresh, silence: &mut watch::Receiver<bool>) -> Option<Tunnel> {
    tracing::warn!(code = "tunnel.silent", "the relay is silent; dialling a second tunnel");
    let until = Instant::now() + DIAL_WINDOW;
    let mut attempts = JoinSet::new();
    // Thousands of agents may find one relay silent at the same moment.
    let first = Instant::now() + between(Duration::ZERO, DIAL_INTERVAL);
    let mut ticks = interval_at(first, DIAL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            responds = async { silence.wait_for(|silent| !silent).await.is_ok() } => {
                if responds {
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
                        error = without_causes(&error),
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

/// Sends GOAWAY and waits until the relay has closed the tunnel.
async fn drain(mut tunnel: Tunnel, reason: &str) {
    tracing::info!(
        downloads = tunnel.control.open_streams(),
        reason,
        code = "tunnel.draining",
        "closing the tunnel after running downloads"
    );
    tunnel.control.go_away(Goaway { reason: reason.to_owned(), reconnect_after_ms: [0, 0] });
    if timeout(DRAIN_TIMEOUT, &mut tunnel.task).await.is_err() {
        tracing::warn!(
            code = "tunnel.drain_timeout",
            "downloads still run after {} s; ending them",
            DRAIN_TIMEOUT.as_secs()
        );
        tunnel.task.abort();
    }
}

fn crashed() -> Ended {
    Ended::ByUs(Close::new(CloseCode::Other(1011), "internal error: the task of the tunnel failed"))
}
