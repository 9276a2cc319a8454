//! Retention: old client addresses in the audit log are replaced by pseudonyms, and older events are deleted.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::store::{Store, StoreError};

/// The time between two searches for data that is too old.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);
/// How long tunnels, traffic and enrolments are kept: long enough to compare a year with the year before.
const KEEP_HISTORY: Duration = Duration::from_secs(400 * 86_400);

const DAY: Duration = Duration::from_secs(86_400);
/// The shortest time for which operators' events may be kept: what is found at the end of a quarter can still
/// be explained. A shorter time would be a way to erase them.
pub(crate) const MIN_KEEP_OPERATOR_EVENTS: Duration = Duration::from_secs(90 * 86_400);

/// How long each kind of data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The age at which client addresses are replaced by pseudonyms.
    pub pseudonymise_after: Duration,
    /// The age at which audit events are deleted.
    pub keep: Duration,
    /// The age at which operators' events are deleted.
    pub keep_operator_events: Duration,
}

impl Default for Retention {
    /// Six months for client addresses, twelve for audit events. Operators' events are kept for a year longer
    /// than the events that they are about.
    fn default() -> Self {
        Self { pseudonymise_after: 183 * DAY, keep: 365 * DAY, keep_operator_events: 730 * DAY }
    }
}

impl Retention {
    /// Deletes old data at once and then every hour, until the handle is aborted.
    pub fn start(self, store: Store) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut ticks = interval(CHECK_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = self.forget(&store, Timestamp::now()).await {
                    tracing::error!(
                        %error,
                        code = "retention.failed",
                        "cannot delete old audit events; trying again in an hour"
                    );
                }
            }
        })
    }

    /// Deletes or pseudonymises the data that is too old at `now`.
    ///
    /// # Errors
    /// [`StoreError`]; what was deleted before the error stays deleted.
    pub async fn forget(self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let before = |age: Duration| {
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(now.as_second().saturating_sub(seconds)).unwrap_or(Timestamp::MIN)
        };
        let deleted = store.prune_audit(before(self.keep)).await?;
        let pseudonyms = store.pseudonymise_audit(before(self.pseudonymise_after)).await?;
        store.prune_history(before(KEEP_HISTORY)).await?;
        store.prune_resting_names(now).await?;
        store.prune_codes(now, before(KEEP_HISTORY)).await?;
        let operators = store.prune_operator_events(before(self.keep_operator_events)).await?;
        if operators > 0 {
            tracing::info!(
                deleted = operators,
                code = "retention.operator_events_deleted",
                "operators' events were deleted at the end of their retention"
            );
        }
        if deleted + pseudonyms > 0 {
            tracing::info!(
                deleted,
                pseudonyms,
                code = "retention.audit_events_deleted",
                "old audit events were deleted or pseudonymised"
            );
        }
        Ok(())
    }
}
