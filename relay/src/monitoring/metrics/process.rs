//! Metrics of the process, under the names that every exporter uses.

use std::fmt;

use procfs::{WithCurrentSystemInfo, boot_time_secs, process::Process};
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::counter::ConstCounter, registry::Unit,
};

use super::sites::{Descriptor, gauge, one};

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // If the kernel does not give the figures, they are left out.
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let resident = stat.rss_bytes().get() as f64;
            let descriptor = Descriptor::new("process_resident_memory", "Resident memory", Some(Unit::Bytes));
            one(&mut encoder, descriptor, &gauge(resident))?;
            let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            let descriptor = Descriptor::new("process_cpu", "Processor time", Some(Unit::Seconds));
            one(&mut encoder, descriptor, &ConstCounter::new(seconds))?;
            if let Ok(booted) = boot_time_secs() {
                let started = booted as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64;
                let descriptor = Descriptor::new(
                    "process_start_time",
                    "Start time since the Unix epoch",
                    Some(Unit::Seconds),
                );
                one(&mut encoder, descriptor, &gauge(started))?;
            }
        }
        if let Ok(open) = process.fd_count() {
            one(
                &mut encoder,
                Descriptor::new("process_open_fds", "Open file descriptors", None),
                &gauge(open as f64),
            )?;
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            one(
                &mut encoder,
                Descriptor::new("process_max_fds", "Maximum open file descriptors", None),
                &gauge(most as f64),
            )?;
        }
        Ok(())
    }
}
