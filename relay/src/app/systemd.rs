//! What systemd is told (`sd_notify(3)`). Where there is no systemd nothing happens.

use sd_notify::NotifyState;

/// The relay accepts: whoever it is the successor of may stop.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The relay lets running downloads finish and ends.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    // A manager that does not listen is none of the relay's business.
    let _ = sd_notify::notify(&[state]);
}
