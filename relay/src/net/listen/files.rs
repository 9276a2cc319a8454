//! The limit of open files: every connection needs one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections of clients: the database, the log, listeners, the admin's connections, and what the
/// runtime needs.
const RESERVE: u64 = 256;

/// Raises this process's limit of open files as far as allowed, and returns how many connections fit into it, at most
/// `wanted`. Logs a warning if there are fewer.
///
/// Without a free file no connection can be accepted, so a relay that reached this limit would serve no client at all.
pub fn room_for(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The soft limit is for programs that cannot handle high file numbers; this one can.
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let Some(files) = current else { return wanted };
    let room = u32::try_from(files.saturating_sub(RESERVE).max(RESERVE)).unwrap_or(u32::MAX);
    // Connections over the limit need files too, until they have got their response.
    let room = room - room / 8;
    if room < wanted {
        tracing::warn!(
            files,
            connections = room,
            wanted,
            code = "listener.open_files_low",
            "the limit of open files is too low for --max-connections: raise it (ulimit -n, LimitNOFILE)"
        );
    }
    room.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_and_never_for_more_than_wanted() {
        assert_eq!(room_for(10), 10);
        assert!(room_for(u32::MAX) >= 200);
    }
}
