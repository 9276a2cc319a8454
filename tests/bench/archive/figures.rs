//! Times and memory, and how they are printed.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use harness::process::Process;

/// The times of many searches, in order.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Puts them in order.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Repeats some work until the time or the number of times is reached.
    pub(crate) fn take(long: Duration, most: usize, mut work: impl FnMut(usize)) -> Self {
        let (end, mut times) = (Instant::now() + long, Vec::new());
        while times.len() < most && Instant::now() < end {
            let began = Instant::now();
            work(times.len());
            times.push(began.elapsed());
        }
        Self::of(times)
    }

    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100].as_secs_f64() * 1000.0
    }

    /// Prints the median and the 99th percentile, and how many times faster than another they are.
    pub(crate) fn print(&self, name: &str, beside: Option<&Self>) {
        let [p50, p99] = [50, 99].map(|percent| self.percentile(percent));
        let ratio = beside.map_or_else(String::new, |other| {
            format!(
                "; find takes {:.0} and {:.0} times as long",
                other.percentile(50) / p50,
                other.percentile(99) / p99
            )
        });
        println!("  {name:<14} p50 {p50:9.3} ms, p99 {p99:9.3} ms ({} searches{ratio})", self.0.len());
    }
}

/// Bytes of memory.
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: u64,
    /// The most there were.
    pub(crate) most: u64,
}

/// The memory of an agent at an archive, once it has counted or indexed it.
pub(crate) async fn agent_memory(pattern: &str, index: Option<&Path>) -> Memory {
    let mut arguments: Vec<String> = [
        "serve",
        "--bind-to",
        "127.0.0.1:0",
        "--token",
        "a-search-token",
        "--log-level",
        "debug",
        "--path",
        pattern,
    ]
    .map(str::to_owned)
    .into();
    arguments.extend(index.map(|index| format!("--index={}", index.display())));
    let agent = Process::start("audiovault-agent", &arguments, &[("TZ", "UTC".to_owned())]);
    agent.wait_for("recordings were counted").await;
    if index.is_some() {
        agent.wait_for_code("index.up_to_date").await;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let bytes = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    Memory { resident: bytes("VmRSS:"), most: bytes("VmHWM:") }
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
