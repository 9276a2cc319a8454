//! The process of a program: its memory, the signals that end it, and its exit code.

use std::{io, process::ExitCode};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Why a program ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed while it ran: exit code 1.
    Failed,
    /// The command line or the configuration is wrong: exit code 2.
    Misconfigured,
}

impl Exit {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Misconfigured => 2,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Keeps keys, tokens and passwords in memory private: a crash writes no core file (setrlimit(2)), and no other process
/// of the same user may read the memory or trace the process (`PR_SET_DUMPABLE`, prctl(2)). Call it before the process
/// has any secret.
///
/// The process itself can still use `/proc/self/fd`, by which the agent's deny list finds the path of an open file: the
/// kernel does not check threads that look at their own process (`ptrace_may_access`). Only `/proc/self/environ` is
/// lost, which no program here reads.
pub fn keep_memory_private() {
    // If the kernel refuses, the process still works. It cannot be logged, since logging has not started yet.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Completes when SIGTERM or SIGINT asks the process to end. A second signal changes nothing; SIGKILL ends the process
/// at once.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn termination() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
