//! The path to a relay, stage by stage: name service, TCP, proxy, TLS, and the relay's clock.

use std::{
    path::Path,
    time::{Instant, SystemTime},
};

use audiovault_common::advice::Advice;
use audiovault_protocol::frame::one_line;
use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use url::Url;

use super::{
    clock::{self, Offset},
    exchange,
    report::{RelayRows, Step, Verdict},
    signer,
    signer::Circumstances,
};
use crate::{
    net::{Addresses, Attempts, Connected, DnsError, ReachError, Reached, Route, TlsFailure},
    tunnel::connect::Dialler,
};

const REFUSED: &str =
    "no program listens on that port, or a firewall refuses the connection: check address, port and firewall";

/// Tries all stages, with a row for each.
///
/// # Errors
/// The step that failed. The rows for all steps of this part are added in any case.
pub(super) async fn examine(
    dialler: &Dialler,
    relay: &Url,
    cacert: Option<&Path>,
    rows: &mut RelayRows<'_, '_>,
) -> Result<(), Step> {
    let route = dialler.outbound().route(dialler.target());
    let (addresses, passed) = match connect(&route, dialler, rows).await {
        Ok(connected) => connected,
        Err(step) => {
            rows.skip_after(step, &[Step::Tls, Step::Time]);
            return Err(step);
        }
    };
    let begun = Instant::now();
    let circumstances =
        Circumstances { host: dialler.target().host(), cacert, offset: None, now: Timestamp::now() };
    match route.secure(passed).await {
        Ok(reached) => {
            rows.add(Step::Tls, begun, secured(&reached, dialler, &circumstances));
            let begun = Instant::now();
            rows.add(Step::Time, begun, clock::evaluate(date(reached, relay).await));
            Ok(())
        }
        Err(ReachError::Tls(_, failure)) => {
            let offset = if is_about_time(&failure) {
                date_at_any_time(&route, &addresses, relay).await
            } else {
                None
            };
            rows.add(Step::Tls, begun, signer::refused(&failure, &Circumstances { offset, ..circumstances }));
            let time =
                offset.map_or_else(|| Verdict::after(Step::Tls), |offset| clock::evaluate(Some(offset)));
            rows.add(Step::Time, Instant::now(), time);
            Err(Step::Tls)
        }
        Err(error) => {
            rows.add(Step::Tls, begun, failed(&error));
            rows.skip_after(Step::Tls, &[Step::Time]);
            Err(Step::Tls)
        }
    }
}

/// All stages before TLS.
async fn connect(
    route: &Route<'_>,
    dialler: &Dialler,
    rows: &mut RelayRows<'_, '_>,
) -> Result<(Addresses, Connected), Step> {
    let begun = Instant::now();
    let addresses = match route.resolve().await {
        Ok(addresses) => addresses,
        Err(error) => {
            rows.add(Step::NameService, begun, failed(&error));
            rows.skip_after(Step::NameService, &[Step::Tcp, Step::Proxy]);
            return Err(Step::NameService);
        }
    };
    rows.add(Step::NameService, begun, Verdict::pass(resolved(route, dialler, &addresses)));
    let begun = Instant::now();
    let connected = match route.connect(&addresses).await {
        Ok(connected) => connected,
        Err(error) => {
            rows.add(Step::Tcp, begun, failed(&error));
            rows.skip_after(Step::Tcp, &[Step::Proxy]);
            return Err(Step::Tcp);
        }
    };
    rows.add(Step::Tcp, begun, Verdict::pass(won(&connected)));
    let begun = Instant::now();
    let to_text = match route.proxy() {
        Some(proxy) => format!("{proxy} connects to {}", dialler.target()),
        None => "no proxy".to_owned(),
    };
    match route.pass_proxy(connected, &addresses).await {
        Ok(passed) => {
            rows.add(Step::Proxy, begun, Verdict::pass(to_text));
            Ok((addresses, passed))
        }
        Err(error) => {
            rows.add(Step::Proxy, begun, failed(&error));
            Err(Step::Proxy)
        }
    }
}

fn failed(error: &ReachError) -> Verdict {
    let otherwise = "check the network between this machine and the relay";
    match error {
        // The error text of the library repeats the question.
        ReachError::Dns(host, error @ (DnsError::Unknown(_) | DnsError::Silent)) => Verdict::fail(
            one_line(&format!("cannot find the address of {host}: {error}")),
            error.advice().unwrap_or(otherwise.into()),
        ),
        ReachError::Tcp(host, attempts) if attempts.all_refused() => {
            Verdict::fail(format!("{host} refuses the connection ({attempts})"), REFUSED)
        }
        ReachError::Dns(..)
        | ReachError::Tcp(..)
        | ReachError::Proxy(..)
        | ReachError::Tls(..)
        | ReachError::Timeout { .. } => Verdict::failed(error, otherwise),
    }
}

fn resolved(route: &Route<'_>, dialler: &Dialler, addresses: &Addresses) -> String {
    let hop = route.proxy().map_or_else(|| dialler.target(), |proxy| proxy.target());
    let whose = if route.proxy().is_some() { "the proxy " } else { "" };
    let all: Vec<String> = addresses.hop.iter().map(|address| address.ip().to_string()).collect();
    let to_text = if hop.host().parse::<std::net::IpAddr>().is_ok() {
        format!("{whose}{} is an IP address, so no name service is needed", hop.host())
    } else {
        format!("{whose}{} is {}", hop.host(), all.join(", "))
    };
    match (route.proxy(), addresses.beyond) {
        (None, _) => to_text,
        (Some(_), Some(beyond)) => format!("{to_text}; {} is {}", dialler.target().host(), beyond.ip()),
        (Some(_), None) => format!("{to_text}; the proxy resolves {}", dialler.target().host()),
    }
}

fn won(connected: &Connected) -> String {
    let Attempts(failed) = &connected.failed;
    let to_text = format!("{} answered", connected.address);
    if failed.is_empty() { to_text } else { format!("{to_text}; these failed before: {}", connected.failed) }
}

fn secured(reached: &Reached, dialler: &Dialler, circumstances: &Circumstances<'_>) -> Verdict {
    if dialler.target().tls().is_some() {
        return signer::trusted(reached.tls_version, &reached.certificates, circumstances);
    }
    if reached.address.ip().is_loopback() {
        return Verdict::pass("no TLS: the address is ws://, but on this machine");
    }
    Verdict::warn(
        "no TLS: the site key, the search tokens and all recordings travel unencrypted",
        "use wss:// instead of ws://, unless you trust the whole network",
    )
}

fn is_about_time(failure: &TlsFailure) -> bool {
    match failure {
        TlsFailure::Expired { .. } | TlsFailure::NotYetValid { .. } => true,
        TlsFailure::UnknownIssuer { .. }
        | TlsFailure::WrongName { .. }
        | TlsFailure::Unusable { .. }
        | TlsFailure::Disagreement(_)
        | TlsFailure::NotTls(_)
        | TlsFailure::Broken(_) => false,
    }
}

/// The relay's time, from a server with the right certificate, even if that is expired or not yet valid.
async fn date_at_any_time(route: &Route<'_>, addresses: &Addresses, relay: &Url) -> Option<Offset> {
    let route = route.at_any_time();
    let connected = route.connect(addresses).await.ok()?;
    let passed = route.pass_proxy(connected, addresses).await.ok()?;
    date(route.secure(passed).await.ok()?, relay).await
}

/// Reads the date. Every response has one, even a 404.
async fn date(reached: Reached, relay: &Url) -> Option<Offset> {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::HEAD;
    let asked = SystemTime::now();
    let answer = exchange::on(reached.stream, relay, request).await.ok()?;
    Offset::read(answer.headers(), asked, SystemTime::now())
}
