//! Tunnels: checks the upgrade request of an agent before the connection is upgraded.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use audiovault_common::{http_error::HttpError, listener::into_transport};
use audiovault_protocol::{
    identity::site::{KeyDigest, SiteId, SiteKey},
    message::SUBPROTOCOL,
};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{Instrument, field};

use super::{PublicState, body::PublicBody, context::RequestContext, entrance::Answer};
use crate::{
    limits::{ClientKey, Subject},
    sites::directory::KeyRefused,
    tunnel::session::{self, Admission},
};

/// When to dial again while the relay drains: its successor needs this time to start.
const DRAIN_RETRY: Duration = Duration::from_secs(2);
/// Bytes of the nonce in `Sec-WebSocket-Key` (RFC 6455, section 4.1).
const NONCE_LEN: usize = 16;

/// `/tunnel`.
pub(super) async fn accept(
    state: &Arc<PublicState>,
    context: &RequestContext,
    parts: &Parts,
    upgrade: Option<OnUpgrade>,
) -> Result<Answer, HttpError> {
    let admission = identify(state, context.address, &parts.headers).await?;
    let accept = handshake(parts)?;
    let upgrade = upgrade.ok_or_else(not_a_websocket)?;
    // Last, so that only a request that would become a tunnel takes an admission from others.
    let admitted = state.limits.admissions.admit(&admission.site, context.client_key(), Instant::now());
    admitted.map_err(|wait| not_yet(wait).at(&admission.site))?;
    // The tunnel lives on after the request that opened it.
    let span = tracing::info_span!(parent: None, "tunnel", site = %admission.site, session = field::Empty);
    state.tunnels.spawn(serve(Arc::clone(state), admission, upgrade).instrument(span));
    Ok(Answer { response: switch_protocols(&accept), site: None })
}

/// The site key in a request.
pub(super) fn site_key(headers: &HeaderMap) -> Option<SiteKey> {
    let bearer = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    SiteKey::parse(bearer).ok()
}

/// Finds out which site an agent belongs to.
async fn identify(state: &PublicState, address: IpAddr, headers: &HeaderMap) -> Result<Admission, HttpError> {
    if state.is_draining() {
        let detail = "this relay is shutting down; dial again";
        return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(DRAIN_RETRY));
    }
    let key = site_key(headers);
    match verify(state, key.as_ref(), address.into()).await? {
        Ok((site, key)) => {
            let base_url = state.public_url.site(&site);
            Ok(Admission { site, key, address, base_url })
        }
        Err(KeyRefused::Disabled) => {
            tracing::info!(%address, code = "agent.site_disabled", "an agent of a disabled site was refused");
            Err(HttpError::new(StatusCode::FORBIDDEN, KeyRefused::Disabled.to_string()))
        }
        Err(KeyRefused::Unknown) => {
            tracing::warn!(
                %address,
                code = "agent.key_refused",
                "an agent without a valid site key was refused"
            );
            Err(HttpError::new(StatusCode::UNAUTHORIZED, KeyRefused::Unknown.to_string()))
        }
    }
}

/// Checks a key. A correct key passes even if wrong ones came from the same address: 256 random bits are not guessed.
/// A key that the relay does not know may have been made a moment ago, or its site was just enabled, so the database
/// is read again.
async fn verify(
    state: &PublicState,
    key: Option<&SiteKey>,
    client: ClientKey,
) -> Result<Result<(SiteId, KeyDigest), KeyRefused>, HttpError> {
    let judged = || {
        let key = key.ok_or(KeyRefused::Unknown)?;
        Ok((key.site().clone(), state.directory().verify_key(key)?))
    };
    let subject = || match key.map(SiteKey::site) {
        Some(site) if state.directory().site(site).is_some() => Subject::key(client, site),
        Some(site) => Subject::key_by_name(client, site),
        None => Subject::unknown(client),
    };
    if let Ok(right) = judged() {
        return Ok(Ok(right));
    }
    state.limits.throttle.check(&subject(), Instant::now())?;
    let read = match key {
        Some(_) => state.refresher.refresh().await,
        None => Ok(()),
    };
    let verified = judged();
    if verified.is_err() {
        read?;
    }
    if matches!(verified, Err(KeyRefused::Unknown)) {
        state.limits.throttle.wrong(subject(), Instant::now());
    }
    Ok(verified)
}

fn not_yet(wait: Duration) -> HttpError {
    let detail = "this relay is admitting other agents; dial again after the given time";
    // The client gets whole seconds, rounded up: an admission whose time has not come cannot be used.
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(wait)
}

/// Checks the opening handshake (RFC 6455, section 4.2.1) and computes the accept value.
fn handshake(parts: &Parts) -> Result<String, HttpError> {
    let headers = &parts.headers;
    let is_upgrade = parts.version == Version::HTTP_11
        && lists(headers, header::CONNECTION, "upgrade")
        && lists(headers, header::UPGRADE, "websocket")
        && lists(headers, header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade).ok_or_else(not_a_websocket)?;
    if !lists(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        let detail = "agent and relay have no protocol version in common; update the older of the two";
        return Err(upgrade_required(detail));
    }
    if BASE64.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == NONCE_LEN) {
        return Ok(derive_accept_key(key.as_bytes()));
    }
    Err(HttpError::new(
        StatusCode::BAD_REQUEST,
        "Sec-WebSocket-Key must be 16 bytes in Base64 (RFC 6455, section 4.1)",
    ))
}

fn not_a_websocket() -> HttpError {
    upgrade_required("agents connect here by WebSocket over HTTP/1.1")
}

/// The response names the protocol that is needed (RFC 9110, section 15.5.22).
fn upgrade_required(detail: &'static str) -> HttpError {
    HttpError::new(StatusCode::UPGRADE_REQUIRED, detail)
        .with(header::UPGRADE, HeaderValue::from_static("websocket"))
        .with(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL))
        .with(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
}

/// Whether a comma-separated header contains `target`, ignoring case.
fn lists(headers: &HeaderMap, name: HeaderName, target: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(target))
}

fn switch_protocols(accept: &str) -> Response<PublicBody> {
    let mut response = Response::new(PublicBody::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn serve(state: Arc<PublicState>, admission: Admission, upgrade: OnUpgrade) {
    match upgrade.await {
        Ok(upgraded) => {
            let registry = Arc::clone(&state.registry);
            let journal = state.journal.clone();
            let (connection, early) = into_transport(upgraded);
            let directory = state.directory.clone();
            session::run(connection, early, admission, registry, journal, directory).await;
        }
        Err(error) => {
            tracing::info!(
                site = %admission.site,
                %error,
                code = "agent.left_early",
                "an agent disconnected while connecting"
            )
        }
    }
}
