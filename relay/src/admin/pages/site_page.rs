//! The page of one site.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use audiovault_protocol::identity::site::SiteId;
use axum::{extract::State, response::Response};
use jiff::Timestamp;

use super::{Shell, page, sparkline::curve};
use crate::{
    admin::{AdminState, HttpError, VisibleSite},
    model::rights::Permission,
    monitoring::{
        board::SiteState,
        site_detail::{SiteDetail, Sources},
        uptime::{Piece, Uptime},
    },
    sites::queuemetrics,
    store::MAX_VALID_KEYS,
};

#[derive(Template)]
#[template(path = "site.html")]
struct SitePage {
    shell: Shell,
    site: SiteDetail,
    properties: String,
    agent_start: String,
}

pub(super) async fn show(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    let site = gather(&state, &site).await?;
    let url = &state.public.public_url;
    let properties = queuemetrics::properties(url, &site.view.site, &shell.t("search-token-here"));
    let agent_start = queuemetrics::agent_start(url);
    Ok(page(&SitePage { shell, site, properties, agent_start }))
}

/// All details of a site.
pub(crate) async fn gather(state: &AdminState, site: &SiteId) -> Result<SiteDetail, HttpError> {
    let snapshot = state.board.up_to_date().await;
    let sources = Sources {
        store: state.auth.store(),
        agents: &state.public.agents,
        snapshot: &snapshot,
        public_url: &state.public.public_url,
    };
    Ok(SiteDetail::gather(sources, site).await?)
}

impl SitePage {
    fn may_change(&self) -> bool {
        self.shell.may(Permission::ChangeSites)
    }

    fn may_remove(&self) -> bool {
        self.shell.may(Permission::AddSites)
    }

    fn may_mint(&self) -> bool {
        self.shell.may(Permission::MintKeys)
    }

    fn may_play(&self) -> bool {
        self.shell.may(Permission::Play)
    }

    fn is_disabled(&self) -> bool {
        self.site.view.state == SiteState::Disabled
    }

    /// The text key of the reason why no enrolment code can be made; `None` if one can be made.
    fn no_enrolment(&self) -> Option<&'static str> {
        let valid = self.site.keys.iter().filter(|key| key.revoked.is_none()).count();
        if self.is_disabled() {
            return Some("problem-enrol-disabled");
        }
        (valid >= MAX_VALID_KEYS).then_some("problem-enrol-no-room")
    }

    /// The valid keys and the latest revoked ones. After years a site has many revoked keys.
    fn keys(&self) -> impl Iterator<Item = &crate::monitoring::site_detail::KeyView> {
        let revoked = self.site.keys.iter().filter(|key| key.revoked.is_some()).count();
        self.site.keys.iter().skip(revoked.saturating_sub(MAX_VALID_KEYS))
    }

    fn tenants(&self) -> String {
        let all: BTreeSet<_> = self.site.sessions.iter().flat_map(|session| &session.tenants).collect();
        all.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// HttpError requests of the last hour, as text keys with counts. Counts of zero are left out.
    fn refusals(&self) -> impl Iterator<Item = (&'static str, u32)> + use<> {
        let refused = self.site.view.refused_last_hour;
        let counts = [
            ("refused-tokens", refused.wrong_tokens),
            ("refused-keys", refused.wrong_keys),
            ("refused-links", refused.wrong_links),
            ("refused-unseen", refused.throttled),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0)
    }

    fn percent(&self, up: &Option<f64>) -> String {
        let language = self.shell.language();
        // Rounded down, so that 100 % is shown only for a site that was never down.
        up.map(|up| format!("{}\u{a0}%", language.decimal((up * 1000.0).floor() / 10.0))).unwrap_or_default()
    }

    /// The pieces of the uptime bar: position, height from 0 to 10, and label.
    fn bar(&self, uptime: &Uptime) -> Vec<(usize, f64, String)> {
        let label = |piece: &Piece| {
            let from = self.shell.language().moment(piece.from);
            format!("{from}: {}", self.percent(&Some(piece.up)))
        };
        uptime.pieces.iter().enumerate().map(|(at, piece)| (at, piece.up * 10.0, label(piece))).collect()
    }

    fn moment(&self, seconds: &u64) -> Option<Timestamp> {
        Timestamp::from_second(i64::try_from(*seconds).ok()?).ok()
    }

    fn searches_curve(&self) -> String {
        curve(&self.site.last_hour, |point| Some(point.searches as f64))
    }

    fn bytes_curve(&self) -> String {
        curve(&self.site.last_hour, |point| Some(point.bytes as f64))
    }

    fn rtt_curve(&self) -> String {
        curve(&self.site.last_hour, |point| point.rtt_ms)
    }

    fn lived(&self, opened: &Timestamp, closed: &Option<Timestamp>) -> u64 {
        let until = closed.unwrap_or_else(Timestamp::now);
        u64::try_from(until.as_second() - opened.as_second()).unwrap_or_default()
    }
}
