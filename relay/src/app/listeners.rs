//! Starts the listeners of a configuration.

use std::sync::Arc;

use audiovault_common::listener::{Gate, Listening, Routes, start_plain};
use axum::{Router, middleware};

use crate::{
    admin::entrance::{self, Entrance, HEALTH},
    app::config::ServeConfig,
    cluster::ClusterConfig,
    net::{
        host,
        listen::{CertificateSource, ListenError, Sockets, room_for, start_tls},
    },
    public::PublicSide,
};

/// Connections to the admin listener: one or two pages for each operator, and health checks. The limit is separate
/// from the public one, so that operators get in while the public side is full.
const ADMIN_CONNECTIONS: u32 = 200;

/// How many of these one client may have: two browsers with six each, a program that uses the API, and as many again
/// for colleagues behind the same address. It takes four clients to fill the listener.
const ADMIN_CLIENT_CONNECTIONS: u32 = 50;

/// Connections from peer relays: one for each running request, and idle ones that are kept open.
const RELAY_CONNECTIONS: u32 = 20_000;

/// The connection limit that all public listeners share.
pub fn public_gate(config: &ServeConfig) -> Arc<Gate> {
    let room = room_for(config.limits.max_connections);
    Arc::new(Gate::new(room, config.limits.max_client_connections, config.trusted_proxies.clone()))
}

/// Starts the public listeners, plain HTTP before TLS.
///
/// # Errors
/// [`ListenError`].
pub async fn start_public(
    config: &ServeConfig,
    sockets: &mut Sockets,
    gate: &Arc<Gate>,
    side: PublicSide,
) -> Result<Vec<Listening>, ListenError> {
    let mut public = Vec::new();
    if let Some(addr) = config.plain {
        public.push(start_plain(sockets.open(addr).await?, gate, side.clone())?);
    }
    if let Some(tls) = &config.tls {
        let listener = sockets.open(tls.addr).await?;
        public.push(start_tls(listener, tls.certificate.clone(), gate, side)?);
    }
    for listening in &public {
        tracing::info!(
            addr = %listening.addr,
            public_url = %config.public_url,
            code = "listener.started",
            "listening"
        );
    }
    Ok(public)
}

/// Starts the listener for peer relays, whose requests are authenticated.
///
/// # Errors
/// [`ListenError`].
pub async fn start_for_relays(
    config: &ClusterConfig,
    sockets: &mut Sockets,
    router: Router,
) -> Result<Listening, ListenError> {
    let gate = Arc::new(Gate::new(RELAY_CONNECTIONS, RELAY_CONNECTIONS, Vec::new()));
    let socket = sockets.open(config.bind).await?;
    let listening = match &config.tls {
        Some(files) => start_tls(socket, CertificateSource::Files(files.clone()), &gate, Routes(router))?,
        None => start_plain(socket, &gate, Routes(router))?,
    };
    tracing::info!(
        addr = %listening.addr,
        tls = config.tls.is_some(),
        code = "peer_listener.started",
        "listening for peer relays"
    );
    Ok(listening)
}

/// Starts the admin listener. Its routes get [`ClientAddress`](crate::net::client::ClientAddress) and
/// [`Scheme`](crate::net::client::Scheme) of the client as extensions of each request.
///
/// # Errors
/// [`ListenError`].
pub async fn start_admin(
    config: &ServeConfig,
    sockets: &mut Sockets,
    router: Router,
) -> Result<Listening, ListenError> {
    let gate = Gate::new(ADMIN_CONNECTIONS, ADMIN_CLIENT_CONNECTIONS, config.trusted_proxies.clone())
        .with_room_for(&HEALTH);
    let gate = Arc::new(gate);
    let listener = &config.admin;
    let entrance =
        Entrance { hosts: listener.hosts.clone(), trusted_proxies: config.trusted_proxies.clone() };
    let router = router.layer(middleware::from_fn_with_state(Arc::new(entrance), entrance::enter));
    let router = router.layer(middleware::from_fn(host::require));
    let socket = sockets.open(listener.addr).await?;
    let admin = match &listener.certificate {
        Some(files) => start_tls(socket, CertificateSource::Files(files.clone()), &gate, Routes(router))?,
        None => start_plain(socket, &gate, Routes(router))?,
    };
    tracing::info!(
        addr = %admin.addr,
        tls = listener.certificate.is_some(),
        code = "operator_listener.started",
        "listening for operators"
    );
    Ok(admin)
}
