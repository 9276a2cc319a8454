//! What the process as a whole may take.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getpriority_process, getrlimit, set_dumpable_behavior,
    setpriority_process, setrlimit,
};

/// Descriptors beside those of streams: tunnels, logs, directories that are searched.
pub const BASE_FILES: u64 = 256;
/// Descriptors of a stream: its recording, and what a search beside it opens.
pub const FILES_PER_STREAM: u64 = 2;

/// Keeps keys and tokens in memory: no core is written when the process ends badly (setrlimit(2)), and no other process of the same user may
/// read its memory or trace it (`PR_SET_DUMPABLE`, prctl(2)). The process itself keeps `/proc/self/fd`, by which the deny rules learn where a
/// file lies: the kernel asks nothing of threads that look at their own process (`ptrace_may_access`). Only `/proc/self/environ` is gone,
/// which nothing here reads.
pub fn keep_memory_private() {
    // A kernel that refuses leaves a process that works; there is no log yet to say so in.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Lets everything else on the machine run first (`nice(1)`), in this thread and all that it starts. A process that is
/// nicer already stays so; one that may not be nicer runs all the same.
pub fn be_nice(niceness: i32) {
    if getpriority_process(None).is_ok_and(|now| now < niceness) {
        let _ = setpriority_process(None, niceness);
    }
}

/// Asks for as many descriptors as so many streams and connections of clients need, as far as the machine lets a process ask.
pub fn make_room(streams: u32, connections: u32) {
    let wanted = BASE_FILES + FILES_PER_STREAM * u64::from(streams) + u64::from(connections);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    if current.is_some_and(|allowed| allowed < raised) {
        // What was not had is found out by `room`.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
}

/// How many connections of clients the descriptors of this process suffice for beside so many streams; one at least.
pub fn room_for_connections(streams: u32) -> u32 {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = allowed.saturating_sub(BASE_FILES + FILES_PER_STREAM * u64::from(streams));
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
}

/// How many streams the descriptors of this process suffice for; one at least.
pub fn room() -> u32 {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let streams = allowed.saturating_sub(BASE_FILES) / FILES_PER_STREAM;
    u32::try_from(streams).unwrap_or(u32::MAX).max(1)
}
