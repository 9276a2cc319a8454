//! A running agent: its service, its tunnels, and the reporter of its state.

pub mod report;

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    app::report::Reporter,
    http::{Current, ServiceSettings, monitor},
    status::state::StateFile,
    tunnel::{self, Shared, TunnelConfig, TunnelError, states::TunnelStates},
};

/// The settings of an agent. All but the state file may change while it runs.
#[derive(Debug)]
pub struct AgentSettings {
    /// Search and download.
    pub service: ServiceSettings,
    /// The relay addresses, the site key and the options of the tunnels.
    pub tunnel: TunnelConfig,
    /// The file to which the agent writes its state.
    pub state_file: Option<StateFile>,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    service: Current,
    config: watch::Sender<Arc<TunnelConfig>>,
    reporter: Reporter,
    tunnels: JoinHandle<()>,
}

impl Agent {
    /// Starts to dial and serve, on this runtime, until the shutdown.
    ///
    /// # Errors
    /// [`TunnelError`] if the configuration cannot be used at all.
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
        let config_now = config.subscribe();
        let service_now = service.clone();
        let shared = Shared { config: config_now, service: service_now, status, states, shutdown };
        Ok(Self { service, config, reporter, tunnels: tokio::spawn(tunnel::run(shared)) })
    }

    /// Applies new settings. Running requests keep the old ones; no tunnel is dropped.
    ///
    /// # Errors
    /// [`TunnelError`] if they cannot be used; then nothing has changed.
    pub fn reconfigure(&self, settings: AgentSettings) -> Result<(), TunnelError> {
        settings.tunnel.check()?;
        self.service.renew(settings.service);
        self.config.send_replace(Arc::new(settings.tunnel));
        Ok(())
    }

    /// Reports that the new configuration cannot be used, or clears that report.
    pub fn note_problem(&self, problem: Option<String>) {
        self.service.problems().note("configuration", problem);
    }

    /// Completes after the shutdown, when running downloads have finished and are written to the audit log.
    pub async fn finished(self) {
        // The task ends by itself or with the runtime.
        let _ = self.tunnels.await;
        self.service.finish().await;
        self.reporter.finish().await;
    }
}
