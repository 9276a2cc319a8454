//! The agent's limits on the resources of its machine: the PBX on the same machine comes first.
//!
//! Those of the process as a whole are here.

mod pacer;
mod schedule;
pub mod throttle;

use rustix::process::{Resource, Rlimit, getpriority_process, getrlimit, setpriority_process, setrlimit};

pub use self::{
    pacer::{Paced, Pacer},
    schedule::{Rate, RateError, Schedule, ScheduleError},
};

/// Most recordings that stay open between two requests: as many as there are listeners at a busy site.
pub(crate) const KEPT_FILES: usize = 64;
/// File descriptors in addition to those of streams: tunnels, logs, directories that are searched, and recordings that
/// stay open.
pub(crate) const BASE_FILES: u64 = 256 + KEPT_FILES as u64;
/// File descriptors of a stream: its recording, and what a concurrent search opens.
pub(crate) const FILES_PER_STREAM: u64 = 2;

/// Lets everything else on the machine run first (`nice(1)`), in this thread and all that it starts. A process that is
/// already nicer stays so. If the niceness cannot be changed, the process runs anyway.
pub fn be_nice(niceness: i32) {
    if getpriority_process(None).is_ok_and(|now| now < niceness) {
        let _ = setpriority_process(None, niceness);
    }
}

/// Raises the limit of file descriptors for these streams and client connections, as far as the machine allows.
pub fn make_room(streams: u32, connections: u32) {
    let wanted = BASE_FILES + FILES_PER_STREAM * u64::from(streams) + u64::from(connections);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    if current.is_some_and(|allowed| allowed < raised) {
        // If it cannot be raised, `room_for_streams` finds that out.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
}

/// How many client connections fit into the file descriptors of this process besides these streams; at least one.
pub fn room_for_connections(streams: u32) -> u32 {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = allowed.saturating_sub(BASE_FILES + FILES_PER_STREAM * u64::from(streams));
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
}

/// How many streams fit into the file descriptors of this process; at least one.
pub fn room_for_streams() -> u32 {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let streams = allowed.saturating_sub(BASE_FILES) / FILES_PER_STREAM;
    u32::try_from(streams).unwrap_or(u32::MAX).max(1)
}
