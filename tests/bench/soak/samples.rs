//! The resources of the programs, second by second.

use std::{fmt::Write as _, time::Duration};

use harness::process::Process;

use crate::soak::{churn::Programs, load::Tally};

/// The resources of one program.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Bytes of memory.
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Usage {
    fn of(process: &Process) -> Option<Self> {
        let process = procfs::process::Process::new(i32::try_from(process.id()).ok()?).ok()?;
        let status = process.status().ok()?;
        Some(Self {
            resident: status.vmrss? * 1024,
            descriptors: process.fd_count().ok()? as u64,
            threads: status.threads,
        })
    }
}

/// One second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) relay: Usage,
    /// The highest values of all agents.
    pub(crate) agent: Usage,
    /// The median and the slowest time of the answered searches, if there were any.
    pub(crate) searches: Option<[Duration; 2]>,
}

/// All seconds.
#[derive(Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<Sample>);

impl Samples {
    pub(crate) fn take(&mut self, programs: &Programs, tally: &Tally) {
        let mut searches = tally.recent();
        searches.sort();
        let agents = programs.agents.iter().filter_map(|agent| Usage::of(&agent.process));
        let agent = agents.reduce(|a, b| Usage {
            resident: a.resident.max(b.resident),
            descriptors: a.descriptors.max(b.descriptors),
            threads: a.threads.max(b.threads),
        });
        self.0.push(Sample {
            relay: programs.relay.process.as_ref().and_then(Usage::of).unwrap_or_default(),
            agent: agent.unwrap_or_default(),
            searches: searches.last().map(|slowest| [searches[searches.len() / 2], *slowest]),
        });
    }

    /// The median of each quarter of the time: growth shows here.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from(
            "| quarter | relay MiB | descriptors | threads | agent MiB | descriptors | threads | search p50 ms | slowest ms |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for (number, quarter) in (1..).zip(self.0.chunks(self.0.len().div_ceil(4).max(1))) {
            let median = |figure: fn(&Sample) -> u64| {
                let mut figures: Vec<_> = quarter.iter().map(figure).collect();
                figures.sort_unstable();
                figures[figures.len() / 2]
            };
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let mut searches: Vec<_> = quarter.iter().filter_map(|sample| sample.searches).collect();
            searches.sort();
            let slowest = searches.iter().map(|[_, slowest]| *slowest).max().unwrap_or_default();
            let p50 = searches.get(searches.len() / 2).map_or(Duration::ZERO, |[median, _]| *median);
            let _ = writeln!(
                table,
                "| {number} | {:.1} | {} | {} | {:.1} | {} | {} | {:.1} | {} |",
                mib(median(|sample| sample.relay.resident)),
                median(|sample| sample.relay.descriptors),
                median(|sample| sample.relay.threads),
                mib(median(|sample| sample.agent.resident)),
                median(|sample| sample.agent.descriptors),
                median(|sample| sample.agent.threads),
                p50.as_secs_f64() * 1000.0,
                slowest.as_millis(),
            );
        }
        table
    }
}
