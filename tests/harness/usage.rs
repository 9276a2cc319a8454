//! What processes cost: processor time and memory, with those that they have started.

use std::time::Duration;

use procfs::process::{Process, Stat, all_processes};

/// The processes of one program, by the ids of those that were started first.
#[derive(Debug, Default, Clone)]
pub struct Processes(
    /// Ids of those that were started first.
    pub Vec<u32>,
);

impl Processes {
    /// Everything that runs beneath the first ones.
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

    /// Processor time so far, in steps of the kernel's clock (10 ms mostly).
    pub fn processor_time(&self) -> Duration {
        let ticks: u64 = self.all().iter().map(|stat| stat.utime + stat.stime).sum();
        Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
    }

    /// Octets resident now.
    pub fn resident(&self) -> u64 {
        let resident = |stat: Stat| Process::new(stat.pid).ok()?.status().ok()?.vmrss;
        self.all().into_iter().filter_map(resident).sum::<u64>() * 1024
    }
}
