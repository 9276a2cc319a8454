//! The service as it is configured now: a reload replaces it whole, and what is under way ends as it began.

use std::sync::Arc;

use axum::{Router, extract::FromRef, middleware, routing::any};
use tokio::sync::watch;

use super::{AgentService, Failure, ServiceSettings, frame, recordings, search};
use crate::{deny::Deny, problems::Problems, record::Recorder};

/// A service that can be replaced while it serves. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Current {
    service: watch::Sender<Arc<AgentService>>,
    recorder: Recorder,
    deny: Deny,
    problems: Problems,
}

impl Current {
    /// Begins with these settings.
    pub fn new(settings: ServiceSettings) -> Self {
        let problems = Problems::default();
        let recorder = Recorder::new(problems.clone());
        recorder.configure(settings.record.clone());
        let deny = Deny::new(problems.clone());
        deny.configure(settings.deny.clone());
        let service = watch::Sender::new(Arc::new(AgentService::new(settings, deny.clone())));
        Self { service, recorder, deny, problems }
    }

    /// The service of this moment.
    pub fn load(&self) -> Arc<AgentService> {
        Arc::clone(&self.service.borrow())
    }

    /// Goes on with new settings.
    pub fn renew(&self, settings: ServiceSettings) {
        self.recorder.configure(settings.record.clone());
        self.deny.configure(settings.deny.clone());
        self.service.send_modify(|service| *service = Arc::new(service.renewed(settings)));
    }

    /// What is wrong with the agent itself.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// Writes down what has happened. To be awaited when nothing is served any more.
    pub async fn finish(&self) {
        self.recorder.finish().await;
    }

    /// Follows the service as it is renewed.
    pub fn follow(&self) -> watch::Receiver<Arc<AgentService>> {
        self.service.subscribe()
    }

    /// The routes `/search`, `/search/` and `/recordings/{token}/{name}`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/search", any(search::search))
            .route("/search/", any(search::search))
            .route("/recordings/{token}/{name}", any(recordings::recording))
            .fallback(|| async { Failure::not_found() })
            .layer(middleware::from_fn_with_state(self.recorder.clone(), frame::frame))
            .with_state(self.clone())
    }
}

impl FromRef<Current> for Arc<AgentService> {
    /// Every request is answered to its end by the service that it began with.
    fn from_ref(current: &Current) -> Self {
        current.load()
    }
}
