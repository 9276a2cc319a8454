//! Notifications to systemd (`sd_notify(3)`). Without systemd they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The program is configured and serves. This also ends a reload.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The program reloads its configuration; [`ready`] ends this.
pub fn reloading() {
    // A service manager that does not know `Type=notify-reload` does not need the time either.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The program lets running downloads finish and then ends. With `within`, systemd waits at least that long before it
/// kills the program; otherwise the timeout of the unit applies.
pub fn stopping(within: Option<Duration>) {
    let extension = within.map(|within| u32::try_from(within.as_micros()).unwrap_or(u32::MAX));
    match extension {
        Some(microseconds) => notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(microseconds)]),
        None => notify(&[NotifyState::Stopping]),
    }
}

/// A line for `systemctl status`, and a sign of life for the watchdog.
pub fn alive(status: &str) {
    notify(&[NotifyState::Status(status), NotifyState::Watchdog]);
}

/// How often the watchdog of systemd needs a sign of life. `None` if the watchdog is off.
pub fn watchdog() -> Option<Duration> {
    // Twice as often as systemd asks for (`sd_watchdog_enabled(3)`).
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    // If the service manager cannot be reached, the program runs all the same.
    let _ = sd_notify::notify(states);
}
