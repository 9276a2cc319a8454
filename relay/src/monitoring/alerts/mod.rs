//! Sends alerts to a webhook when a site goes down, comes back or loses its recordings, when the audit log cannot be
//! written, and for operators' events, including those of the command line and of peer relays.
//!
//! A new state is announced only after it has lasted for the hold time: an agent that dials again, or a relay that was
//! restarted, causes no alert.

mod evaluator;
mod webhook;

use std::{sync::Arc, time::Duration};

use audiovault_common::request_id::new_id;
use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use self::evaluator::Evaluator;
pub use self::webhook::{Webhook, WebhookError};
use super::board::{SiteState, Snapshot};
use crate::{model::operator_events::OperatorEvent, store::Store};

/// Most alerts that may wait while the webhook does not answer: one for every site of a large relay.
const MAX_WAITING: usize = 4096;

/// How long a state lasts before it is announced, unless configured otherwise: agents dial again within seconds, and a
/// thousand of them after a restart within half a minute.
pub const DEFAULT_HOLD: Duration = Duration::from_secs(60);

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Event {
    /// A site has an agent, and its recordings are readable.
    #[serde(rename = "site.up")]
    SiteUp,
    /// A site has an agent, but one of its storage roots cannot be read.
    #[serde(rename = "site.degraded")]
    SiteDegraded,
    /// No agent of a site is connected any more.
    #[serde(rename = "site.down")]
    SiteDown,
    /// Together, clients send so many wrong tokens for a site that new clients are throttled.
    #[serde(rename = "site.token_guessing")]
    TokenGuessing,
    /// The audit log and the history cannot be written.
    #[serde(rename = "journal.failing")]
    JournalFailing,
    /// The audit log and the history are written again.
    #[serde(rename = "journal.recovered")]
    JournalRecovered,
}

/// One message to the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Identifies the message; the same in every attempt to deliver it.
    pub id: String,
    /// What has happened.
    #[serde(rename = "type")]
    pub event: Event,
    /// When the message was made.
    pub timestamp: Timestamp,
    /// The details.
    pub data: AlertData,
}

/// The details of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AlertData {
    /// The site, if the alert is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteId>,
    /// The operator's note on the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The state that was announced before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<SiteState>,
    /// Since when the new state has lasted.
    pub since: Timestamp,
    /// What is wrong with the recordings or the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Alert {
    fn new(event: Event, data: AlertData) -> Self {
        Self { id: format!("msg_{}", new_id()), event, timestamp: Timestamp::now(), data }
    }
}

/// What is sent to the webhook. All messages have `id`, `type`, `timestamp` and `data`.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Message {
    /// The state of a site or of the relay has changed.
    Alert(Alert),
    /// An operator has done something.
    Operator {
        id: String,
        /// `operator.` and the code of the action.
        #[serde(rename = "type")]
        kind: String,
        timestamp: Timestamp,
        data: Box<OperatorEvent>,
    },
}

impl Message {
    pub(crate) fn operator(event: OperatorEvent) -> Self {
        Self::Operator {
            // The same id, in case a peer relay sends the event as well.
            id: format!("msg_{}", event.id),
            kind: format!("operator.{}", event.action),
            timestamp: Timestamp::now(),
            data: Box::new(event),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.id,
            Self::Operator { id, .. } => id,
        }
    }
}

/// Starts to watch the snapshots and to send alerts. Ends when the handle is aborted.
pub fn start(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    store: Store,
    hold: Duration,
    webhook: Webhook,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let sending = webhook.run(waiting);
        let judging = async {
            // Without the announced states, no alert is sent twice, but a change in the meantime is missed.
            let announced = store.announced().await.unwrap_or_else(|error| {
                tracing::error!(
                    %error,
                    code = "alert.states_unreadable",
                    "cannot read which states were announced before"
                );
                Default::default()
            });
            let mut evaluate = Evaluator::new(announced, hold);
            while snapshots.changed().await.is_ok() {
                let snapshot = Arc::clone(&snapshots.borrow_and_update());
                for alert in evaluate.evaluate(&snapshot, Timestamp::now()) {
                    if is_ours(&store, &alert).await && sender.try_send(Message::Alert(alert)).is_err() {
                        tracing::error!(
                            code = "alert.lost",
                            "an alert was lost: the webhook has not answered for too long"
                        );
                    }
                }
            }
        };
        let forwarding = forward_operator_events(store.clone(), sender.clone());
        tokio::join!(sending, judging, forwarding);
    })
}

/// True if this relay should announce it. A database that does not answer must not suppress an alert.
async fn is_ours(store: &Store, alert: &Alert) -> bool {
    let (Some(site), Some(state)) = (&alert.data.site, alert.event.state()) else { return true };
    store.announce(site, state.as_str()).await.unwrap_or(true)
}

impl Event {
    fn state(self) -> Option<SiteState> {
        match self {
            Self::SiteUp => Some(SiteState::Up),
            Self::SiteDegraded => Some(SiteState::Degraded),
            Self::SiteDown => Some(SiteState::Down),
            Self::TokenGuessing | Self::JournalFailing | Self::JournalRecovered => None,
        }
    }
}

/// How often the database is checked for new events. An event is sent while the operator who caused it is still at the
/// keyboard, and one indexed read every two seconds costs nothing.
const OPERATOR_EVENTS_INTERVAL: Duration = Duration::from_secs(2);
/// Most events that are read at a time.
const OPERATOR_EVENTS_BATCH: u32 = 100;
/// Older events are not sent any more: alerts are given up after a day as well. Without this limit, a webhook that is
/// set up after a year would get the whole year.
const OPERATOR_EVENTS_MAX_AGE: Duration = Duration::from_secs(86_400);

/// Sends events until the receiver is gone.
async fn forward_operator_events(store: Store, messages: mpsc::Sender<Message>) {
    let mut ticks = interval(OPERATOR_EVENTS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !messages.is_closed() {
        ticks.tick().await;
        // An event is claimed only if there is room for it, so a webhook that is down loses none of the last day.
        let room = u32::try_from(messages.capacity()).unwrap_or(u32::MAX).min(OPERATOR_EVENTS_BATCH);
        if room == 0 {
            continue;
        }
        match store.claim_operator_events(Timestamp::now() - OPERATOR_EVENTS_MAX_AGE, room).await {
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

#[cfg(test)]
mod tests;
