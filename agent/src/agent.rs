//! A running agent: one service, its tunnels, and whoever tells how they are.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    monitor, report,
    report::Reporter,
    service::{ServiceSettings, current::Current},
    state::StateFile,
    tunnel::{self, Shared, TunnelConfig, TunnelError, states::TunnelStates},
};

/// What an agent is told; all but the state file may change while it runs.
#[derive(Debug)]
pub struct AgentSettings {
    /// Search and download.
    pub service: ServiceSettings,
    /// Where to dial and as whom.
    pub tunnel: TunnelConfig,
    /// Where to leave word of how the agent is.
    pub state_file: Option<StateFile>,
}

/// An agent that runs.
#[derive(Debug)]
pub struct Agent {
    service: Current,
    config: watch::Sender<Arc<TunnelConfig>>,
    reporter: Reporter,
    tunnels: JoinHandle<()>,
}

impl Agent {
    /// Begins to dial and serve, in this runtime, until the shutdown.
    ///
    /// # Errors
    /// [`TunnelError`] when the configuration cannot be used at all.
    pub fn start(settings: AgentSettings, shutdown: CancellationToken) -> Result<Self, TunnelError> {
        settings.tunnel.check()?;
        let site = settings.tunnel.site_key.site().clone();
        let service = Current::new(settings.service);
        let config = watch::Sender::new(Arc::new(settings.tunnel));
        let states = TunnelStates::default();
        let status = monitor::start(&service);
        let reporter = report::start(
            &site,
            settings.state_file,
            states.follow(),
            status.clone(),
            service.problems().follow(),
        );
        let (config_now, service_now) = (config.subscribe(), service.clone());
        let shared = Shared { config: config_now, service: service_now, status, states, shutdown };
        Ok(Self { service, config, reporter, tunnels: tokio::spawn(tunnel::run(shared)) })
    }

    /// Goes on with other settings. What is under way ends as it began; no tunnel is dropped.
    ///
    /// # Errors
    /// [`TunnelError`] when they cannot be used; then nothing has changed.
    pub fn reconfigure(&self, settings: AgentSettings) -> Result<(), TunnelError> {
        settings.tunnel.check()?;
        self.service.renew(settings.service);
        self.config.send_replace(Arc::new(settings.tunnel));
        Ok(())
    }

    /// Tells whoever watches the agent that its new configuration cannot be used, or can again.
    pub fn note_problem(&self, problem: Option<String>) {
        self.service.problems().note("configuration", problem);
    }

    /// Completes after the shutdown, once running downloads have finished and stand on record.
    pub async fn finished(self) {
        // The task ends by itself or with the runtime.
        let _ = self.tunnels.await;
        self.service.finish().await;
        self.reporter.finish().await;
    }
}
