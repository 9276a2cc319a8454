//! One site with all details, as its page and the API show it.

use audiovault_protocol::identity::site::SiteId;
use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};
use serde::Serialize;

use crate::{
    monitoring::{
        board::{Point, SiteView, Snapshot},
        uptime::Uptime,
    },
    net::public_url::PublicUrl,
    routing::router::AgentRouter,
    store::{EnrolmentRecord, Store, StoreError, StoredSite, Traffic, TunnelRecord},
    tunnel::view::SessionView,
};

/// Most tunnels that the timeline shows.
const TIMELINE: u32 = 50;
/// Most enrolments that are shown: a site has a handful in its life.
const ENROLMENTS: u32 = 10;
/// Most tunnels from which uptime is computed. A site that has more in a week connects every minute, which the
/// timeline shows well enough.
const MAX_TUNNELS: u32 = 10_000;
/// Pieces of the bar of a day: half hours.
const DAY_PIECES: u32 = 48;
/// Pieces of the bar of a week: quarters of a day.
const WEEK_PIECES: u32 = 28;

/// One site with all details.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SiteDetail {
    /// What the board shows of the site.
    #[serde(flatten)]
    pub view: SiteView,
    /// When the site was added.
    pub created: Timestamp,
    /// Since when the site has been disabled.
    pub disabled_since: Option<Timestamp>,
    /// The address for searches in QueueMetrics.
    pub search_url: String,
    /// The keys of the site, oldest first, including revoked ones.
    pub keys: Vec<KeyView>,
    /// The latest enrolment codes that were used or can still be used, the newest first.
    pub enrolments: Vec<EnrolmentRecord>,
    /// The tunnels of the site's connected agents.
    pub sessions: Vec<SessionView>,
    /// Searches, errors and bytes of this calendar month (UTC).
    pub traffic_this_month: Traffic,
    /// Uptime of the last 24 hours.
    pub uptime_day: Uptime,
    /// Uptime of the last 7 days.
    pub uptime_week: Uptime,
    /// The latest tunnels of the site, the newest first.
    pub tunnels: Vec<TunnelRecord>,
    /// The last hour, one point for each minute.
    pub last_hour: Vec<Point>,
}

/// A site key, without its secret.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct KeyView {
    /// Identifies the key.
    pub id: String,
    /// When the key was made.
    pub created: Timestamp,
    /// Since when the key has been invalid.
    pub revoked: Option<Timestamp>,
}

/// What the details are gathered from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The database, for what happened in the past.
    pub store: &'a Store,
    /// The connected agents, here and at peer relays.
    pub agents: &'a AgentRouter,
    /// The snapshot of the board.
    pub snapshot: &'a Snapshot,
    /// The public address of the relay.
    pub public_url: &'a PublicUrl,
}

impl SiteDetail {
    /// Gathers all details of a site.
    ///
    /// # Errors
    /// [`StoreError::UnknownSite`] if there is no such site, or if it is so new that the board does not show it yet.
    pub async fn gather(sources: Sources<'_>, site: &SiteId) -> Result<Self, StoreError> {
        let Sources { store, agents, snapshot, public_url } = sources;
        let row = snapshot.site(site).ok_or_else(|| StoreError::UnknownSite(site.clone()))?;
        let stored = store.show(site).await?;
        let now = Timestamp::now();
        let day = before(now, 24);
        let week = before(now, 7 * 24);
        let in_a_week = store.tunnels(site, week, MAX_TUNNELS).await?;
        let first = store.first_seen(site).await?;
        let month = store.traffic(site, month_begin(now)).await?;
        Ok(Self {
            view: row.view.clone(),
            created: stored.created,
            disabled_since: stored.disabled,
            search_url: public_url.search(site),
            keys: keys(&stored),
            enrolments: store.enrolments(site, now, ENROLMENTS).await?,
            sessions: agents.sessions(site).await,
            traffic_this_month: month,
            uptime_day: Uptime::of(&in_a_week, (day, now), first, DAY_PIECES),
            uptime_week: Uptime::of(&in_a_week, (week, now), first, WEEK_PIECES),
            tunnels: store.tunnels(site, Timestamp::UNIX_EPOCH, TIMELINE).await?,
            last_hour: row.series.clone(),
        })
    }
}

fn keys(stored: &StoredSite) -> Vec<KeyView> {
    let view = |key: &crate::store::StoredKey| KeyView {
        id: key.digest.short(),
        created: key.created,
        revoked: key.revoked,
    };
    stored.keys.iter().map(view).collect()
}

fn before(now: Timestamp, hours: i64) -> Timestamp {
    now.checked_sub(hours.hours()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn month_begin(now: Timestamp) -> Timestamp {
    let first = now.to_zoned(TimeZone::UTC).first_of_month().and_then(|day| day.start_of_day());
    first.as_ref().map_or(now, Zoned::timestamp)
}
