//! Notifications to systemd (`sd_notify(3)`). Without systemd they do nothing.

use sd_notify::NotifyState;

/// The relay accepts connections. A relay that it replaces can stop now.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// The relay is draining: it lets running downloads finish and then ends.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    // If the service manager cannot be reached, the relay runs all the same.
    let _ = sd_notify::notify(&[state]);
}
