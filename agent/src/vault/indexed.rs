//! Tells of an index what is news: that it is finished, that it cannot be kept, that it can again.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::vault::{
    driver::{FileDriver, IndexFault},
    index::Scanned,
};

/// How the index of a driver was, when that was told last.
#[derive(Debug, Default)]
pub(super) struct Indexed(Mutex<Told>);

#[derive(Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Finished,
    Failed(String),
}

impl Indexed {
    /// Tells of a scan if it is news.
    pub(super) fn judge(&self, driver: &FileDriver, result: &Result<Scanned, IndexFault>, took: Duration) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pattern = driver.pattern();
        let now = match result {
            Ok(_) => Told::Finished,
            // That the root is gone is told by searches and probes.
            Err(IndexFault::Root(_)) => return,
            Err(fault) => Told::Failed(fault.to_string()),
        };
        match result {
            Ok(Scanned { folders, read, added, removed }) if *told != now => {
                tracing::info!(%pattern, folders, read, added, removed, ?took, "the index is up to date");
            }
            Ok(Scanned { folders, read, added, removed }) => {
                tracing::debug!(%pattern, folders, read, added, removed, ?took, "the index is up to date");
            }
            Err(fault) if *told != now => {
                let cause = fault.source().map(ToString::to_string);
                tracing::warn!(%pattern, cause, "the index is not up to date; searches look into folders instead: {fault}");
            }
            Err(_) => {}
        }
        *told = now;
    }
}
