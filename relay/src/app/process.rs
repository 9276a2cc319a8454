//! Protects the memory of the process.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Protects keys, tokens and passwords in memory: a crash writes no core file (setrlimit(2)), and no other process of
/// the same user may read the memory or trace the process (`PR_SET_DUMPABLE`, prctl(2)).
pub fn keep_private() {
    // If the kernel refuses, the process still works. It cannot be logged, since logging has not started yet.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
