//! A tunnel for the time of a check, where no agent of the site is connected.
//!
//! It answers nobody but the check: for a moment the site looks connected, and whoever searched then would get links
//! that end with the check.

use std::{sync::Arc, time::Duration};

use audiovault_protocol::{
    limits::MAX_REQUEST_BODY_LEN,
    link::{AgentControl, AgentLink, LinkState},
    message::Goaway,
    parameters::{Field, Parameters},
    problem::Problem,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::told::Told;
use crate::{
    service::{ServiceSettings, current::Current},
    tunnel::{TunnelConfig, connect::Dialler, identity::Run, supervisor::bytes_service},
};

/// How long a relay may take to welcome the tunnel, and to close it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tunnel that serves the check.
#[derive(Debug)]
pub(super) struct OwnTunnel {
    control: AgentControl,
    task: AbortOnDropHandle<()>,
}

impl OwnTunnel {
    /// Dials, as an agent of its own: it takes no other's place. Only searches on behalf of `user` are answered.
    ///
    /// # Errors
    /// What went wrong, in one sentence.
    pub(super) async fn open(
        dialler: &Dialler,
        config: &TunnelConfig,
        service: ServiceSettings,
        user: &str,
    ) -> Result<Self, Told> {
        let current = Current::new(service);
        let hello = Run::begin().hello(0, config, &current.load());
        let (socket, traffic) = dialler.dial().await.map_err(|error| Told::of(&error))?;
        let router = for_one(current.router(), user);
        let (link, control) = AgentLink::new(hello, bytes_service(router));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            link.run(socket, traffic).await;
        }));
        let mut state = control.state();
        let welcomed = state.wait_for(|state| matches!(state, LinkState::Welcomed(_)));
        if !matches!(timeout(PATIENCE, welcomed).await, Ok(Ok(_))) {
            return Err(Told::sentence("the relay does not welcome the tunnel; its log says why"));
        }
        Ok(Self { control, task })
    }

    /// Says goodbye and waits until the relay has closed the tunnel.
    pub(super) async fn close(self) {
        let reason = "the check is over".to_owned();
        self.control.go_away(Goaway { reason, reconnect_after_ms: [0, 0] });
        // What does not end by itself is ended here.
        let _ = timeout(PATIENCE, self.task).await;
    }
}

/// The service, for searches on behalf of one user. Recordings need a link, which only a search gives.
fn for_one(router: Router, user: &str) -> Router {
    let user: Arc<str> = user.into();
    router.layer(from_fn_with_state(user, gate))
}

async fn gate(State(user): State<Arc<str>>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/recordings/") {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST_BODY_LEN).await.unwrap_or_default();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let parameters = Parameters::read(head.uri.query(), kind, &body).unwrap_or_default();
    if parameters.value(Field::User) == Some(&*user) {
        return next.run(Request::from_parts(head, Body::from(body))).await;
    }
    let detail = "the site is not connected but for a check of its own; start its agent, then try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .retry_after(10)
        .into_response()
        .map(Body::from)
        .into_response()
}
