//! The process: protects its memory from other processes, and notifies systemd (`sd_notify(3)`). Without systemd the
//! notifications do nothing.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use sd_notify::NotifyState;

/// Protects keys, tokens and passwords in memory: a crash writes no core file (setrlimit(2)), and no other process of
/// the same user may read the memory or trace the process (`PR_SET_DUMPABLE`, prctl(2)).
pub fn keep_private() {
    // If the kernel refuses, the process still works. It cannot be logged, since logging has not started yet.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

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
