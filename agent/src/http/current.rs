//! The service with its current configuration: a reload replaces all of it, and running requests keep the old one.

use std::sync::Arc;

use axum::{Router, extract::FromRef, middleware, routing::any};
use tokio::sync::watch;

use super::{AgentService, HttpError, ServiceSettings, envelope, recordings, search};
use crate::{audit::Recorder, status::Problems, storage::deny_list::Deny};

/// A service that can be replaced while it serves. Cheap to clone; all clones share one state.
#[derive(Debug, Clone)]
pub struct Current {
    service: watch::Sender<Arc<AgentService>>,
    recorder: Recorder,
    deny: Deny,
    problems: Problems,
}

impl Current {
    /// Starts with these settings.
    pub fn new(settings: ServiceSettings) -> Self {
        let problems = Problems::default();
        let recorder = Recorder::new(problems.clone());
        recorder.configure(settings.audit_log.clone());
        let deny = Deny::new(problems.clone());
        deny.configure(settings.deny.clone());
        let service = watch::Sender::new(Arc::new(AgentService::new(settings, deny.clone())));
        Self { service, recorder, deny, problems }
    }

    /// The current service.
    pub fn load(&self) -> Arc<AgentService> {
        Arc::clone(&self.service.borrow())
    }

    /// Replaces the settings.
    pub fn renew(&self, settings: ServiceSettings) {
        self.recorder.configure(settings.audit_log.clone());
        self.deny.configure(settings.deny.clone());
        self.service.send_modify(|service| *service = Arc::new(service.renewed(settings)));
    }

    /// The problems of the agent itself.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Writes the pending events to the audit log. Call it when nothing is served any more.
    pub async fn finish(&self) {
        self.recorder.finish().await;
    }

    /// Subscribes to the service: the receiver sees each replacement.
    pub fn follow(&self) -> watch::Receiver<Arc<AgentService>> {
        self.service.subscribe()
    }

    /// The routes `/search`, `/search/` and `/recordings/{token}/{name}`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/search", any(search::search))
            .route("/search/", any(search::search))
            .route("/recordings/{token}/{name}", any(recordings::recording))
            .fallback(|| async { HttpError::not_found() })
            .layer(middleware::from_fn_with_state(self.recorder.clone(), envelope::wrap))
            .with_state(self.clone())
    }
}

impl FromRef<Current> for Arc<AgentService> {
    /// Each request is served to its end by the service that it began with.
    fn from_ref(current: &Current) -> Self {
        current.load()
    }
}
