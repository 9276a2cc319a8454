//! `status` and `health`: show how the running agent is doing.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use audiovault_protocol::{frame::one_line, message::DriverStatus};

use super::{CommandError, runtime};
use crate::{
    app::report,
    config::{
        ask_args::{HealthArgs, StatusArgs},
        error::ConfigError,
    },
    status::{
        format_duration,
        state::{self, State, Tunnel, seconds},
    },
};

/// Shows the state. The exit code is that of `health`: whether the agent is connected.
pub(super) fn run(args: &StatusArgs) -> Result<ExitCode, CommandError> {
    let now = SystemTime::now();
    let state = state::read(state_file(args.state_file.as_ref())?, now).map_err(runtime)?;
    let text = if args.json {
        serde_json::to_string_pretty(&state).map_err(runtime)? + "\n"
    } else {
        to_text(&state, seconds(now))
    };
    io::stdout().write_all(text.as_bytes()).map_err(runtime)?;
    Ok(if state.connected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows by the exit code whether the agent is connected.
pub(super) fn health(args: &HealthArgs) -> Result<ExitCode, CommandError> {
    state::check(state_file(args.state_file.as_ref())?, SystemTime::now()).map_err(runtime)?;
    writeln!(io::stdout(), "connected").map_err(runtime)?;
    Ok(ExitCode::SUCCESS)
}

fn state_file(named: Option<&PathBuf>) -> Result<&PathBuf, ConfigError> {
    named.ok_or(ConfigError::Missing("--state-file (the file that the agent writes)"))
}

/// The state as text; `now` is in seconds since the Unix epoch.
fn to_text(state: &State, now: u64) -> String {
    let since = |then: u64| format_duration(Duration::from_secs(now.saturating_sub(then)));
    let mut text = format!(
        "Site {}: {}\naudiovault-agent {}, process {}, running for {}\n",
        state.site,
        one_line(&report::sentence(state)),
        state.version,
        state.pid,
        since(state.started)
    );
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{:<14} {:>7}  {:>10}  RELAY", "TUNNEL", "STREAMS", "ROUND TRIP");
    for tunnel in &state.tunnels {
        text.push_str(&tunnel_line(tunnel, &since));
    }
    let _ = writeln!(text, "\n{:<14} {:>10}  {:<14}  PATH", "STORAGE", "RECORDINGS", "NEWEST");
    for driver in &state.drivers {
        text.push_str(&driver_line(driver, &since));
    }
    text
}

fn tunnel_line(tunnel: &Tunnel, since: &dyn Fn(u64) -> String) -> String {
    let Tunnel { relay, connected, streams, reason, .. } = tunnel;
    if !connected {
        let reason = one_line(reason.as_deref().unwrap_or("not connected yet"));
        return format!("{:<14} {:>7}  {:>10}  {relay} ({reason})\n", "down", "-", "-");
    }
    let up = tunnel.since.map_or_else(|| "up".to_owned(), |then| format!("up {}", since(then)));
    let rtt = tunnel.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt} ms"));
    let session = tunnel.session.as_ref().map(|id| format!(" (session {id})")).unwrap_or_default();
    format!("{up:<14} {streams:>7}  {rtt:>10}  {relay}{session}\n")
}

fn driver_line(driver: &DriverStatus, since: &dyn Fn(u64) -> String) -> String {
    let state = if driver.readable { "readable" } else { "degraded" };
    let count = driver.recordings.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let newest = driver.newest.map_or_else(|| "-".to_owned(), |then| format!("{} ago", since(then)));
    let problem =
        driver.problem.as_ref().map(|problem| format!(" ({})", one_line(problem))).unwrap_or_default();
    format!("{state:<14} {count:>10}  {newest:<14}  {}{problem}\n", driver.pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_an_administrator_asks_is_in_the_table() {
        let up = Tunnel {
            relay: "wss://relay.example/".to_owned(),
            connected: true,
            since: Some(900),
            session: Some("s1".to_owned()),
            streams: 3,
            rtt_ms: Some(12),
            ..Tunnel::default()
        };
        let down = Tunnel {
            relay: "wss://other.example/".to_owned(),
            reason: Some("refused".to_owned()),
            ..Tunnel::default()
        };
        let readable = DriverStatus {
            pattern: "file:/rec".to_owned(),
            readable: true,
            recordings: Some(4321),
            newest: Some(940),
            ..DriverStatus::default()
        };
        let gone = DriverStatus {
            pattern: "file:/nas".to_owned(),
            problem: Some("not mounted".to_owned()),
            ..DriverStatus::default()
        };
        let state = State {
            connected: true,
            version: "1.2.3".to_owned(),
            pid: 7,
            site: "acme".to_owned(),
            started: 400,
            tunnels: vec![up, down],
            drivers: vec![readable, gone],
            ..State::default()
        };
        let text = to_text(&state, 1000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "Site acme: connected to relay.example (1 of 2 tunnels), 3 streams; 1 of 2 storage drivers degraded"
        );
        assert_eq!(lines[1], "audiovault-agent 1.2.3, process 7, running for 10m");
        assert_eq!(lines[4], "up 1m 40s            3       12 ms  wss://relay.example/ (session s1)");
        assert_eq!(lines[5], "down                 -           -  wss://other.example/ (refused)");
        assert_eq!(lines[8], "readable             4321  1m ago          file:/rec");
        assert_eq!(lines[9], "degraded                -  -               file:/nas (not mounted)");
    }
}
