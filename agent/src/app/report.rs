//! Reports the agent's state: in the state file, and to systemd.

use std::{collections::BTreeMap, process, time::SystemTime};

use audiovault_common::systemd;
use audiovault_protocol::{identity::site::SiteId, message::Status};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    status::{
        self, Standing,
        state::{HEARTBEAT, State, StateFile, Tunnel, seconds},
    },
    tunnel::states::{TunnelName, TunnelState},
};

type Tunnels = BTreeMap<TunnelName, TunnelState>;

/// The task that reports, until [`Reporter::finish`].
#[derive(Debug)]
pub struct Reporter {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Reports one last time, without any connected tunnel.
    pub async fn finish(self) {
        self.stop.cancel();
        // If the task failed, that is already logged.
        let _ = self.task.await;
    }
}

/// Starts to report: at every change, and every few seconds.
pub fn start(
    site: &SiteId,
    file: Option<StateFile>,
    tunnels: watch::Receiver<Tunnels>,
    status: watch::Receiver<Status>,
    problems: watch::Receiver<Standing>,
) -> Reporter {
    let stop = CancellationToken::new();
    let base = State {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        site: site.to_string(),
        started: seconds(SystemTime::now()),
        ..State::default()
    };
    let work = Work { base, file, tunnels, status, problems };
    Reporter { task: tokio::spawn(work.run(stop.clone())), stop }
}

struct Work {
    base: State,
    file: Option<StateFile>,
    tunnels: watch::Receiver<Tunnels>,
    status: watch::Receiver<Status>,
    problems: watch::Receiver<Standing>,
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let every = systemd::watchdog().map_or(HEARTBEAT, |limit| limit.min(HEARTBEAT));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = self.tunnels.changed() => {}
                Ok(()) = self.status.changed() => {}
                Ok(()) = self.problems.changed() => {}
                () = stop.cancelled() => break,
            }
            self.publish();
        }
        self.base.connected = false;
        if let Some(file) = &self.file {
            file.write(&State { at: seconds(SystemTime::now()), ..self.base });
        }
    }

    fn publish(&mut self) {
        let state = State {
            at: seconds(SystemTime::now()),
            tunnels: self
                .tunnels
                .borrow_and_update()
                .iter()
                .map(|(name, state)| tunnel(name, state))
                .collect(),
            drivers: self.status.borrow_and_update().drivers.clone(),
            problem: status::in_one_line(&self.problems.borrow_and_update()),
            ..self.base.clone()
        };
        let state = State { connected: state.tunnels.iter().any(|tunnel| tunnel.connected), ..state };
        systemd::alive(&sentence(&state));
        if let Some(file) = &self.file {
            file.write(&state);
        }
    }
}

fn tunnel(name: &TunnelName, state: &TunnelState) -> Tunnel {
    let base = Tunnel { relay: name.relay.to_string(), slot: name.slot, ..Tunnel::default() };
    match state {
        TunnelState::Dialling => Tunnel { reason: Some("dialling".to_owned()), ..base },
        TunnelState::Connected { session, since, control } => Tunnel {
            connected: true,
            since: Some(seconds(*since)),
            session: Some(session.clone()),
            streams: control.open_streams(),
            rtt_ms: control.rtt().map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
            ..base
        },
        TunnelState::Waiting { reason, .. } => Tunnel { reason: Some(reason.clone()), ..base },
    }
}

/// The agent's state in one line: `connected to relay.example.com, 3 streams`.
pub fn sentence(state: &State) -> String {
    let up: Vec<&Tunnel> = state.tunnels.iter().filter(|tunnel| tunnel.connected).collect();
    let streams: usize = up.iter().map(|tunnel| tunnel.streams).sum();
    let mut hosts: Vec<&str> = up.iter().map(|tunnel| host(&tunnel.relay)).collect();
    hosts.dedup();
    let streams = if streams == 1 { "1 stream".to_owned() } else { format!("{streams} streams") };
    let first = state.tunnels.first();
    let mut line = match (up.len(), state.tunnels.len()) {
        (0, _) => {
            let reason = first.and_then(|tunnel| tunnel.reason.as_deref()).unwrap_or("no attempt yet");
            format!("not connected: {reason}")
        }
        (some, all) if some < all => {
            format!("connected to {} ({some} of {all} tunnels), {streams}", hosts.join(" and "))
        }
        (_, 1) => format!("connected to {}, {streams}", hosts.join(" and ")),
        (_, all) => format!("connected to {} ({all} tunnels), {streams}", hosts.join(" and ")),
    };
    let unreadable = state.drivers.iter().filter(|driver| !driver.readable).count();
    if unreadable > 0 {
        line.push_str(&format!("; {unreadable} of {} storage drivers degraded", state.drivers.len()));
    }
    if let Some(problem) = &state.problem {
        line.push_str(&format!("; {problem}"));
    }
    line
}

/// The host and port in a relay's address.
fn host(relay: &str) -> &str {
    let rest = relay.split_once("://").map_or(relay, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(tunnels: &[(&str, bool, usize)]) -> State {
        let tunnel = |&(relay, connected, streams): &(&str, bool, usize)| Tunnel {
            relay: relay.to_owned(),
            connected,
            streams,
            reason: (!connected).then(|| "the relay refused".to_owned()),
            ..Tunnel::default()
        };
        State { tunnels: tunnels.iter().map(tunnel).collect(), ..State::default() }
    }

    #[test]
    fn one_line_says_how_the_agent_is() {
        type Case<'a> = (&'a [(&'a str, bool, usize)], &'a str);
        let one = "wss://a.example/";
        let two = "wss://b.example:8443/";
        let cases: [Case; 6] = [
            (&[], "not connected: no attempt yet"),
            (&[(one, true, 3)], "connected to a.example, 3 streams"),
            (&[(one, true, 1)], "connected to a.example, 1 stream"),
            (&[(one, true, 1), (one, true, 2)], "connected to a.example (2 tunnels), 3 streams"),
            (&[(one, false, 0), (two, true, 0)], "connected to b.example:8443 (1 of 2 tunnels), 0 streams"),
            (&[(one, false, 0)], "not connected: the relay refused"),
        ];
        for (tunnels, line) in cases {
            assert_eq!(sentence(&state(tunnels)), line);
        }
    }

    #[test]
    fn what_is_wrong_is_in_the_line() {
        let mut state = state(&[("wss://a.example/", true, 0)]);
        state.drivers.push(audiovault_protocol::message::DriverStatus::default());
        state.problem = Some("the new configuration cannot be used".to_owned());
        let line = sentence(&state);
        assert!(
            line.ends_with("; 1 of 1 storage drivers degraded; the new configuration cannot be used"),
            "{line}"
        );
    }
}
