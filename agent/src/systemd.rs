//! What systemd is told (`sd_notify(3)`). Where there is no systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The agent is configured and serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] ends this.
pub fn reloading() {
    // A manager that knows no `Type=notify-reload` needs no time either.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The agent lets running downloads finish, for so long at most, and ends.
pub fn stopping(within: Duration) {
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(within)]);
}

/// A line for `systemctl status`, and a sign of life for the watchdog.
pub fn alive(status: &str) {
    tell(&[NotifyState::Status(status), NotifyState::Watchdog]);
}

/// How often a sign of life is wanted, where it is.
pub fn watchdog() -> Option<Duration> {
    // Twice as often as systemd asks for (`sd_watchdog_enabled(3)`).
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that does not listen is none of the agent's business.
    let _ = sd_notify::notify(states);
}
