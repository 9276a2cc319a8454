//! Messages to systemd (`sd_notify(3)`). Without systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The agent is configured and serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is being reloaded; [`ready`] ends this.
pub fn reloading() {
    // A manager that does not know `Type=notify-reload` does not need the time either.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The agent lets running downloads finish, for at most `within`, and ends.
pub fn stopping(within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within)]);
}

/// A line for `systemctl status`, and a sign of life for the watchdog.
pub fn alive(status: &str) {
    notify(&[NotifyState::Status(status), NotifyState::Watchdog]);
}

/// How often systemd needs a sign of life, if its watchdog is on.
pub fn watchdog() -> Option<Duration> {
    // Twice as often as systemd asks for (`sd_watchdog_enabled(3)`).
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    // If the manager does not listen, that is no problem for the agent.
    let _ = sd_notify::notify(states);
}
