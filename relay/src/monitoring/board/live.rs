//! Server-sent events (HTML standard, section 9.2): changes of the board, for operators who may see the sites.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use audiovault_protocol::identity::site::SiteId;
use axum::response::sse::Event;
use futures_util::{Stream, stream};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use super::{Board, Change, RelayView, SiteView, Snapshot, Totals};

/// How long a stream lives. Then it ends and the browser opens the next one, which is refused if the user was logged
/// out in the meantime.
const LIFE: Duration = Duration::from_secs(60);
/// How long a browser waits before it reconnects.
const RETRY: Duration = Duration::from_secs(2);

/// Decides whether a site may be seen.
pub type Sight = Arc<dyn Fn(&SiteId) -> bool + Send + Sync>;

/// One message: the sites that have changed, each with only the changed fields.
#[derive(Debug, Default, Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sites: Vec<Map<String, Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<SiteId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<RelayView>,
}

impl Message {
    fn is_empty(&self) -> bool {
        self.sites.is_empty() && self.removed.is_empty() && self.totals.is_none() && self.relay.is_none()
    }
}

struct Watcher {
    changes: broadcast::Receiver<Arc<Change>>,
    snapshots: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    sight: Sight,
    /// The number of the snapshot that the browser has.
    seen: u64,
    waiting: VecDeque<Event>,
    until: Instant,
}

/// Changes since the snapshot that a browser has, for at most a minute. Every event has the number of its snapshot as
/// its id, so that a browser that reconnects sends the number that it has.
pub fn watch(
    board: &Board,
    sight: Sight,
    seen: Option<u64>,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let changes = board.changes();
    let snapshots = board.snapshots();
    let number = snapshots.borrow().number;
    let mut watcher = Watcher {
        changes,
        snapshots,
        sight,
        seen: seen.unwrap_or(number),
        waiting: VecDeque::new(),
        until: Instant::now() + LIFE,
    };
    watcher.catch_up();
    stream::unfold(watcher, async |mut watcher| {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            match tokio::time::timeout_at(self.until, self.changes.recv()).await {
                Ok(Ok(change)) => self.send_change(&change),
                Ok(Err(RecvError::Lagged(_))) => self.catch_up(),
                // A minute has passed, or the relay stops.
                Ok(Err(RecvError::Closed)) | Err(_) => return None,
            }
        }
    }

    /// Sends the whole rows that have changed since the browser's snapshot.
    fn catch_up(&mut self) {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        // A number in the future was never sent: the clock was set back, or the client made the number up.
        let seen = if self.seen > snapshot.number { 0 } else { self.seen };
        let rows = snapshot.rows.iter().filter(|row| row.changed > seen && (self.sight)(&row.view.site));
        let sites = rows.filter_map(|row| fields(&row.view)).collect();
        let message = Message {
            sites,
            removed: Vec::new(),
            totals: Some(self.totals(&snapshot)),
            relay: Some(snapshot.relay.clone()),
        };
        self.send(snapshot.number, &message);
    }

    fn send_change(&mut self, change: &Change) {
        if change.number <= self.seen {
            return;
        }
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let mut message = Message::default();
        let mut states = false;
        for (site, fields) in change.sites.iter().filter(|(site, _)| (self.sight)(site)) {
            match fields {
                Some(fields) => {
                    states |= fields.contains_key("state");
                    let mut fields = fields.clone();
                    fields.insert("site".to_owned(), site.as_str().into());
                    message.sites.push(fields);
                }
                None => {
                    states = true;
                    message.removed.push(site.clone());
                }
            }
        }
        message.totals = states.then(|| self.totals(&snapshot));
        message.relay = change.relay.then(|| snapshot.relay.clone());
        if message.is_empty() {
            self.seen = change.number;
        } else {
            self.send(change.number, &message);
        }
    }

    fn totals(&self, snapshot: &Snapshot) -> Totals {
        let visible = snapshot.rows.iter().map(|row| &row.view).filter(|view| (self.sight)(&view.site));
        Totals::of(visible)
    }

    fn send(&mut self, number: u64, message: &Message) {
        self.seen = number;
        let event = Event::default().event("board").id(number.to_string()).retry(RETRY);
        match event.json_data(message) {
            Ok(event) => self.waiting.push_back(event),
            Err(error) => tracing::error!(
                %error,
                code = "board.change_not_sent",
                "cannot send a change of the board"
            ),
        }
    }
}

fn fields(view: &SiteView) -> Option<Map<String, Value>> {
    serde_json::to_value(view).ok()?.as_object().cloned()
}
