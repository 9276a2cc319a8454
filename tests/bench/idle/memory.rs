//! The memory of a process, as the kernel counts it.

use std::fs;

use harness::process::Process;
use serde_json::{Value, json};

/// Bytes of memory of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Pages in memory, including shared ones (`VmRSS` of proc_pid_status(5)).
    pub(crate) resident: u64,
    /// The highest value so far (`VmHWM`).
    pub(crate) most: u64,
    /// Pages in memory; each shared page is divided by the number of its users (`Pss` of smaps_rollup,
    /// proc_pid_smaps(5)).
    pub(crate) proportional: u64,
    /// Pages that are not shared: written ones and others.
    pub(crate) private: u64,
}

impl Memory {
    /// The memory of a running process now.
    pub(crate) fn of(process: &Process) -> Self {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", process.id());
            fs::read_to_string(path).expect("a process may read about its own child")
        };
        let (status, maps) = (read("status"), read("smaps_rollup"));
        Self {
            resident: bytes(&status, "VmRSS:"),
            most: bytes(&status, "VmHWM:"),
            proportional: bytes(&maps, "Pss:"),
            private: bytes(&maps, "Private_Clean:") + bytes(&maps, "Private_Dirty:"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "resident": self.resident,
            "most": self.most,
            "proportional": self.proportional,
            "private": self.private,
        })
    }
}

fn bytes(text: &str, key: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(key)).expect("a line of the kernel");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number of KiB") * 1024
}

/// Bytes in KiB.
pub(crate) fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    kib(bytes) / 1024.0
}
