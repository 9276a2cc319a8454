//! The health check, from the configuration to a recording that comes back through the relay. Each step has a row that
//! says what was found and what to do.
//!
//! Pure functions evaluate the results (`clock`, `signer`, `storage`, `websocket`); the other modules collect them.

mod clock;
mod configuration;
pub mod coverage;
mod exchange;
mod reachability;
mod recordings;
pub mod report;
mod round_trip;
mod signer;
mod storage;
mod websocket;

use std::time::Instant;

use audiovault_common::{
    error_chain::in_one_line,
    settings::{Origins, SettingsError},
};
use audiovault_protocol::frame::one_line;
use url::Url;

use self::{
    configuration::{Question, Ready},
    report::{RelayRows, Report, Row, Rows, State, Step, Verdict},
    round_trip::RoundTrip,
    websocket::Answer,
};
use crate::{config::args::TunnelArgs, tunnel::connect::Dialler};

/// How much a check covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The configuration alone.
    Configuration,
    /// From the configuration to a recording that comes back through the relay.
    Everything,
}

/// Checks what `tunnel` would use with these flags, whose values come from these `origins`. Nothing is changed: no file is created, and no running agent is
/// disturbed. `watcher` gets every row at once.
pub async fn run(
    args: TunnelArgs,
    origins: &Origins,
    extent: Extent,
    watcher: &mut dyn FnMut(&Row),
) -> Report {
    let mut rows = Rows::new(watcher);
    let Some(ready) = configuration::examine(args, origins, &mut rows) else {
        return without_configuration(extent, rows);
    };
    let site = Some(ready.tunnel.site_key.site().to_string());
    if extent == Extent::Configuration {
        return Report::new(site, rows.into_found());
    }
    let sample = recordings::examine(&ready.service, &mut rows).await;
    let question = ready.askers.question(sample);
    for relay in &ready.tunnel.relays {
        let mut rows = rows.with(relay.as_str());
        examine_relay(relay, &ready, question.as_ref(), &mut rows).await;
    }
    Report::new(site, rows.into_found())
}

/// The report of a configuration that cannot even be read.
pub fn unreadable(error: &SettingsError, extent: Extent, watcher: &mut dyn FnMut(&Row)) -> Report {
    let mut rows = Rows::new(watcher);
    rows.add(Step::Configuration, Instant::now(), configuration::refused(error));
    without_configuration(extent, rows)
}

fn without_configuration(extent: Extent, mut rows: Rows<'_>) -> Report {
    let steps: &[Step] = match extent {
        Extent::Configuration => &[],
        Extent::Everything => {
            &[Step::Path, Step::SampleSearch, Step::NameService, Step::SiteKey, Step::RoundTrip]
        }
    };
    for &step in steps {
        rows.add(step, Instant::now(), Verdict::after(Step::Configuration));
    }
    Report::new(None, rows.into_found())
}

async fn examine_relay(
    relay: &Url,
    ready: &Ready,
    question: Option<&Question>,
    rows: &mut RelayRows<'_, '_>,
) {
    let begun = Instant::now();
    let dialler = match Dialler::new(relay, &ready.tunnel) {
        Ok(dialler) => dialler,
        Err(error) => return rows.add(Step::Configuration, begun, configuration::refused(&error)),
    };
    let cacert = ready.tunnel.network.cacert.as_deref();
    if let Err(step) = reachability::examine(&dialler, relay, cacert, rows).await {
        return rows.skip_after(step, &[Step::Websocket, Step::SiteKey, Step::RoundTrip]);
    }
    let begun = Instant::now();
    let (upgrade, key) = websocket::evaluate(&upgrade(&dialler).await, ready.tunnel.site_key.site());
    let refused = [(Step::SiteKey, key.state), (Step::Websocket, upgrade.state)]
        .into_iter()
        .find_map(|(step, state)| (state != State::Pass && state != State::Skipped).then_some(step));
    rows.add(Step::Websocket, begun, upgrade);
    rows.add(Step::SiteKey, begun, key);
    if let Some(step) = refused {
        return rows.skip_after(step, &[Step::RoundTrip]);
    }
    let begun = Instant::now();
    let verdict = match question {
        Some(question) => {
            let config = &ready.tunnel;
            let service = &ready.service;
            RoundTrip { dialler: &dialler, relay, config, service, question }.make().await
        }
        None => Verdict::skipped("no search token is allowed to search for the newest recording"),
    };
    rows.add(Step::RoundTrip, begun, verdict);
}

/// Requests a tunnel, and closes it before it is one: without HELLO the relay knows of no agent.
async fn upgrade(dialler: &Dialler) -> Answer {
    let reached = match dialler.outbound().reach(dialler.target()).await {
        Ok(reached) => reached,
        Err(error) => return Answer::HungUp(one_line(&in_one_line(&error))),
    };
    match dialler.upgrade(reached.stream).await {
        Some(Ok(socket)) => {
            // It does not matter whether the close frame arrives.
            let _ = socket.hang_up().await;
            Answer::Upgraded
        }
        Some(Err(error)) => Answer::of(error),
        None => Answer::Silence,
    }
}
