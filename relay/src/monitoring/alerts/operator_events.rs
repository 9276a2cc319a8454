//! Sends operators' events to the webhook, including those of the command line and of peer relays.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{monitoring::alerts::Message, store::Store};

/// How often the database is checked for new events. An event is sent while the operator who caused it is still at the
/// keyboard, and one indexed read every two seconds costs nothing.
const INTERVAL: Duration = Duration::from_secs(2);
/// Most events that are read at a time.
const BATCH: u32 = 100;
/// Older events are not sent any more: alerts are given up after a day as well. Without this limit, a webhook that is
/// set up after a year would get the whole year.
const MAX_AGE: Duration = Duration::from_secs(86_400);

/// Sends events until the receiver is gone.
pub(crate) async fn forward(store: Store, messages: mpsc::Sender<Message>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !messages.is_closed() {
        ticks.tick().await;
        // An event is claimed only if there is room for it, so a webhook that is down loses none of the last day.
        let room = u32::try_from(messages.capacity()).unwrap_or(u32::MAX).min(BATCH);
        if room == 0 {
            continue;
        }
        match store.claim_operator_events(Timestamp::now() - MAX_AGE, room).await {
            Ok(events) => {
                for event in events {
                    let _ = messages.send(Message::operator(event)).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, cause = error.cause(), "cannot read the operators' events for the webhook");
            }
        }
    }
}
