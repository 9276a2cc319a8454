//! Keeps what is in memory from other processes.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps keys, tokens and passwords in memory: no core is written when the process ends badly (setrlimit(2)), and no other process of the
/// same user may read its memory or trace it (`PR_SET_DUMPABLE`, prctl(2)).
pub fn keep_private() {
    // A kernel that refuses leaves a process that works; there is no log yet to say so in.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
