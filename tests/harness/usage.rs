//! The resources that processes use, with all processes that they have started: processor time and memory.

use std::time::Duration;

use procfs::process::{Process, Stat, all_processes};

/// The processes of one program, found from those that were started first.
#[derive(Debug, Default, Clone)]
pub struct Processes(
    /// The ids of the processes that were started first.
    pub Vec<u32>,
);

impl Processes {
    /// The first processes and all their descendants.
    fn all(&self) -> Vec<Stat> {
        let stats: Vec<Stat> =
            all_processes().into_iter().flatten().filter_map(|process| process.ok()?.stat().ok()).collect();
        let mut members: Vec<i32> = self.0.iter().filter_map(|id| i32::try_from(*id).ok()).collect();
        let mut next = 0;
        while let Some(parent) = members.get(next).copied() {
            members.extend(stats.iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid));
            next += 1;
        }
        stats.into_iter().filter(|stat| members.contains(&stat.pid)).collect()
    }

    /// The processor time so far, in steps of the kernel's clock (usually 10 ms).
    pub fn processor_time(&self) -> Duration {
        let ticks: u64 = self.all().iter().map(|stat| stat.utime + stat.stime).sum();
        Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
    }

    /// The resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let resident = |stat: Stat| Process::new(stat.pid).ok()?.status().ok()?.vmrss;
        self.all().into_iter().filter_map(resident).sum::<u64>() * 1024
    }
}
