//! What a site costs a relay that only knows it: every relay has all sites in its list and on its board.

use std::{path::Path, time::Duration};

use harness::{fleet::import, usage::Processes};

use crate::shared::setting::Setting;

/// The number of added sites, without agents.
pub(crate) const KNOWN: usize = 10_000;
/// Time until the relay has read them and drawn its board.
const SETTLE: Duration = Duration::from_secs(5);
/// How long its processor time is measured.
const WATCHED: Duration = Duration::from_secs(20);

/// The cost of each site.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Bytes of resident memory.
    pub(crate) resident: f64,
    /// Microseconds of processor time per second.
    pub(crate) processor: f64,
}

impl Known {
    /// Adds sites, and compares the needs of the only relay before and after.
    pub(crate) async fn measure(setting: &Setting, dir: &Path) -> Self {
        let relay = &setting.cluster.relays[0];
        let programs = Processes(vec![relay.process().id()]);
        let before = need(&programs).await;
        import(relay, dir, KNOWN).await;
        tokio::time::sleep(SETTLE).await;
        let after = need(&programs).await;
        let each = |of: fn(&(u64, f64)) -> f64| (of(&after) - of(&before)) / KNOWN as f64;
        Self { resident: each(|need| need.0 as f64), processor: each(|need| need.1) }
    }
}

/// Resident bytes, and microseconds of processor time per second.
async fn need(programs: &Processes) -> (u64, f64) {
    let before = programs.processor_time();
    tokio::time::sleep(WATCHED).await;
    let took = programs.processor_time().saturating_sub(before);
    (programs.resident(), took.as_secs_f64() * 1e6 / WATCHED.as_secs_f64())
}
