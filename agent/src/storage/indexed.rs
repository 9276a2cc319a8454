//! Logs changes in the state of an index: finished, failed, or working again.

use std::time::Duration;

use audiovault_common::error_chain::causes_in_one_line;
use parking_lot::Mutex;

use crate::storage::{
    driver::{FileDriver, IndexFault},
    index::Scanned,
};

/// The state of a driver's index when it was last logged.
#[derive(Debug, Default)]
pub(super) struct Indexed(Mutex<LastReport>);

#[derive(Debug, Default, PartialEq, Eq)]
enum LastReport {
    #[default]
    Nothing,
    Finished,
    Failed(String),
}

impl Indexed {
    /// Logs the result of a scan; a result that is not new is logged at debug level, or not at all if it is a
    /// failure.
    pub(super) fn report(&self, driver: &FileDriver, result: &Result<Scanned, IndexFault>, took: Duration) {
        let mut told = self.0.lock();
        let pattern = driver.pattern();
        let now = match result {
            Ok(_) => LastReport::Finished,
            // Searches and probes report that the root cannot be opened.
            Err(IndexFault::Root(_)) => return,
            Err(fault) => LastReport::Failed(fault.to_string()),
        };
        match result {
            Ok(Scanned { directories, read, added, removed }) if *told != now => {
                tracing::info!(
                    %pattern,
                    directories,
                    read,
                    added,
                    removed,
                    ?took,
                    code = "index.up_to_date",
                    "the index is up to date"
                );
            }
            Ok(Scanned { directories, read, added, removed }) => {
                tracing::debug!(%pattern, directories, read, added, removed, ?took, "the index is up to date");
            }
            Err(fault) if *told != now => {
                let cause = causes_in_one_line(&fault);
                tracing::warn!(
                    %pattern,
                    cause,
                    code = "index.behind",
                    "the index is not up to date; searches read directories: {fault}"
                );
            }
            Err(_) => {}
        }
        *told = now;
    }
}
