//! A tunnel for the duration of a check, for a site that has no agent connected.
//!
//! It serves only the searches of the check. The site looks connected for a moment; if other searches were served then,
//! their links would stop working when the check ends.

use std::{sync::Arc, time::Duration};

use audiovault_protocol::{
    http::{
        parameters::{Field, Parameters},
        problem::Problem,
    },
    limits::MAX_REQUEST_BODY_LEN,
    link::{AgentControl, AgentLink, LinkState},
    message::Goaway,
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

use super::error_text::ErrorText;
use crate::{
    http::{ServiceSettings, current::Current},
    tunnel::{TunnelConfig, connect::Dialler, identity::Run, supervisor::bytes_service},
};

/// How long a relay may take to accept the tunnel, and to close it.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A tunnel that serves the check.
#[derive(Debug)]
pub(super) struct OwnTunnel {
    control: AgentControl,
    task: AbortOnDropHandle<()>,
}

impl OwnTunnel {
    /// Connects as a separate agent, so it replaces no other. Only searches on behalf of `user` are served.
    ///
    /// # Errors
    /// Says in one sentence what went wrong.
    pub(super) async fn open(
        dialler: &Dialler,
        config: &TunnelConfig,
        service: ServiceSettings,
        user: &str,
    ) -> Result<Self, ErrorText> {
        let current = Current::new(service);
        let hello = Run::begin().hello(0, config, &current.load());
        let (socket, traffic) = dialler.dial().await.map_err(|error| ErrorText::of(&error))?;
        let router = for_one(current.router(), user);
        let (link, control) = AgentLink::new(hello, bytes_service(router));
        let task = AbortOnDropHandle::new(tokio::spawn(async move {
            link.run(socket, traffic).await;
        }));
        let mut state = control.state();
        let welcomed = state.wait_for(|state| matches!(state, LinkState::Welcomed(_)));
        if !matches!(timeout(TUNNEL_TIMEOUT, welcomed).await, Ok(Ok(_))) {
            return Err(ErrorText::sentence("the relay did not accept the tunnel; its log says why"));
        }
        Ok(Self { control, task })
    }

    /// Sends GOAWAY and waits until the relay has closed the tunnel.
    pub(super) async fn close(self) {
        let reason = "the check is over".to_owned();
        self.control.go_away(Goaway { reason, reconnect_after_ms: [0, 0] });
        // After the timeout, dropping the task ends it.
        let _ = timeout(TUNNEL_TIMEOUT, self.task).await;
    }
}

/// Limits the service to searches on behalf of one user. Recordings need a link, which only a search gives.
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
    let detail = "the site has no connected agent, only a check of its own; start its agent, then try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .retry_after(10)
        .into_response()
        .map(Body::from)
        .into_response()
}
