//! Makes the audit forget in time: old client addresses become pseudonyms, older events go.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::store::{Store, StoreError};

/// How often is looked for what has grown old.
const EVERY: Duration = Duration::from_secs(3600);
/// How long tunnels, traffic and enrolments are kept: a year can be compared with the one before.
const KEEP_HISTORY: Duration = Duration::from_secs(400 * 86_400);

const DAY: Duration = Duration::from_secs(86_400);
/// The shortest time for which operators' events are kept: what is found at the end of a quarter can still be explained.
/// A shorter one would be a way to erase them.
pub(crate) const MIN_KEEP_OPERATOR_EVENTS: Duration = Duration::from_secs(90 * 86_400);

/// How long what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age from which client addresses are pseudonyms.
    pub pseudonymise_after: Duration,
    /// Age from which events are deleted.
    pub keep: Duration,
    /// Age from which operators' events are deleted.
    pub keep_operator_events: Duration,
}

impl Default for Retention {
    /// Six months and twelve; operators' events outlive what they are about by a year.
    fn default() -> Self {
        Self { pseudonymise_after: 183 * DAY, keep: 365 * DAY, keep_operator_events: 730 * DAY }
    }
}

impl Retention {
    /// Begins to forget, at once and then every hour; ends when the handle is aborted.
    pub fn start(self, store: Store) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = self.forget(&store, Timestamp::now()).await {
                    tracing::error!(%error, "old audit events could not be removed; trying again in an hour");
                }
            }
        })
    }

    /// Forgets what has grown old.
    ///
    /// # Errors
    /// [`StoreError`]; what was forgotten until then stays forgotten.
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
            tracing::info!(deleted = operators, "operators' events have reached the end of their retention");
        }
        if deleted + pseudonyms > 0 {
            tracing::info!(deleted, pseudonyms, "the audit has forgotten what grew old");
        }
        Ok(())
    }
}
