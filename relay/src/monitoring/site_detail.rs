//! One site with all details, as its page and the API show it, with its uptime: [`Uptime`] merges the spans of the
//! site's tunnels, and computes how much of a period they cover. It is pure.

use audiovault_protocol::identity::site::SiteId;
use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};
use serde::Serialize;

use super::board::{Point, SiteView, Snapshot};
use crate::{
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

/// A period with at least one open tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from_ms: i64,
    until_ms: i64,
}

/// One piece of an uptime bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Piece {
    /// Start of the piece.
    pub from: Timestamp,
    /// End of the piece.
    pub until: Timestamp,
    /// The share of the piece in which an agent was connected, from 0 to 1.
    pub up: f64,
}

/// How much of a period a site was connected.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Uptime {
    /// The share of the period in which an agent was connected, from 0 to 1. Counted from the site's first connection
    /// on; null if that is after the period or never was.
    pub up: Option<f64>,
    /// The period in equal pieces.
    pub pieces: Vec<Piece>,
}

impl Uptime {
    /// The uptime between two times, in `pieces` pieces, from all the site's tunnels that were open in between. Time
    /// before `first`, when the site was first connected, does not count.
    pub fn of(
        tunnels: &[TunnelRecord],
        stretch: (Timestamp, Timestamp),
        first: Option<Timestamp>,
        pieces: u32,
    ) -> Self {
        let from = stretch.0.as_millisecond();
        let until = stretch.1.as_millisecond();
        let spans = spans(tunnels, until);
        let length = (until - from).max(1);
        let edge = |piece: u32| from + length * i64::from(piece) / i64::from(pieces.max(1));
        let pieces = (0..pieces).filter_map(|piece| {
            let from_ms = edge(piece);
            let until_ms = edge(piece + 1);
            Some(Piece {
                from: Timestamp::from_millisecond(from_ms).ok()?,
                until: Timestamp::from_millisecond(until_ms).ok()?,
                up: covered(&spans, from_ms, until_ms),
            })
        });
        let judged = first.map(|first| first.as_millisecond().max(from)).filter(|judged| *judged < until);
        Self { up: judged.map(|judged| covered(&spans, judged, until)), pieces: pieces.collect() }
    }
}

/// The spans of the tunnels, merged if they overlap, in order of time.
fn spans(tunnels: &[TunnelRecord], now_ms: i64) -> Vec<Span> {
    let mut lives: Vec<_> = tunnels
        .iter()
        .map(|tunnel| Span {
            from_ms: tunnel.opened.as_millisecond(),
            until_ms: tunnel.closed.map_or(now_ms, Timestamp::as_millisecond),
        })
        .collect();
    lives.sort_by_key(|span| span.from_ms);
    let mut spans: Vec<Span> = Vec::with_capacity(lives.len());
    for life in lives {
        match spans.last_mut() {
            Some(last) if life.from_ms <= last.until_ms => last.until_ms = last.until_ms.max(life.until_ms),
            _ => spans.push(life),
        }
    }
    spans
}

fn covered(spans: &[Span], from_ms: i64, until_ms: i64) -> f64 {
    let length = (until_ms - from_ms).max(1);
    let within = |span: &Span| (span.until_ms.min(until_ms) - span.from_ms.max(from_ms)).max(0);
    let up: i64 = spans.iter().map(within).sum();
    // Milliseconds of a week are far below 2^53.
    (up as f64 / length as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn tunnel(opened: i64, closed: Option<i64>) -> TunnelRecord {
        TunnelRecord {
            session: String::new(),
            agent_version: String::new(),
            host: String::new(),
            address: String::new(),
            opened: at(opened),
            closed: closed.map(at),
            reason: None,
        }
    }

    #[test]
    fn overlapping_tunnels_count_once() {
        let tunnels = [tunnel(10, Some(30)), tunnel(0, Some(20)), tunnel(50, None)];
        let uptime = Uptime::of(&tunnels, (at(0), at(100)), Some(at(0)), 4);
        assert_eq!(uptime.up, Some(0.8));
        let ups: Vec<_> = uptime.pieces.iter().map(|piece| piece.up).collect();
        assert_eq!(ups, [1.0, 0.2, 1.0, 1.0]);
    }

    #[test]
    fn a_site_is_judged_from_its_first_connection_on() {
        let uptime = Uptime::of(&[tunnel(50, None)], (at(0), at(100)), Some(at(50)), 2);
        assert_eq!(uptime.up, Some(1.0));
        assert_eq!(uptime.pieces[0].up, 0.0);
        assert_eq!(Uptime::of(&[], (at(0), at(100)), None, 2).up, None);
    }

    #[test]
    fn what_lies_outside_the_stretch_does_not_count() {
        let uptime = Uptime::of(&[tunnel(-50, Some(25))], (at(0), at(100)), Some(at(-50)), 1);
        assert_eq!(uptime.up, Some(0.25));
    }
}
