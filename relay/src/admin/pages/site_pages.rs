//! The page of one site with its line charts, and the forms for sites: add a site, change its keys and aliases,
//! disable, enable and remove it.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::{Alias, SiteId};
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use jiff::Timestamp;

use super::{Shell, done, page, page_with, user_pages::field};
use crate::{
    admin::{AdminState, SiteChange, VisibleSite, errors},
    cluster::part::SERIES_MINUTES,
    model::account::Permission,
    monitoring::{
        board::{Point, SiteState},
        site_detail::{Piece, SiteDetail, Sources, Uptime},
    },
    sites::{
        provisioning::{AddedCode, AddedKey, AddedSite, WantedSite},
        queuemetrics,
    },
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

/// Height of the drawing. Its width is one unit per minute.
const CHART_HEIGHT: f64 = 16.0;

/// The line of one metric as the `points` of an SVG polyline; empty if there is nothing to show.
pub(super) fn curve(points: &[Point], figure: impl Fn(&Point) -> Option<f64>) -> String {
    let Some(last) = points.last().map(|point| point.minute) else { return String::new() };
    let values: Vec<(i64, f64)> =
        points.iter().filter_map(|point| Some((point.minute, figure(point)?))).collect();
    let highest = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if highest <= 0.0 {
        return String::new();
    }
    let place = |(minute, value): &(i64, f64)| {
        let x = SERIES_MINUTES as i64 - 1 - (last - minute);
        let y = CHART_HEIGHT - 1.0 - value / highest * (CHART_HEIGHT - 2.0);
        format!("{x},{y:.1}")
    };
    values.iter().map(place).collect::<Vec<_>>().join(" ")
}

type Fields = Form<Vec<(String, String)>>;

#[derive(Template)]
#[template(path = "site_new.html")]
struct NewSitePage {
    shell: Shell,
    site: String,
    note: String,
    aliases: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "site_added.html")]
struct AddedSitePage {
    shell: Shell,
    added: AddedSite,
}

#[derive(Template)]
#[template(path = "key_added.html")]
struct AddedKeyPage {
    shell: Shell,
    site: SiteId,
    key: AddedKey,
}

#[derive(Template)]
#[template(path = "enrolment_code.html")]
struct EnrolmentCodePage {
    shell: Shell,
    added: AddedCode,
}

pub(super) async fn new(shell: Shell) -> Result<Response, HttpError> {
    shell.principal()?.require(Permission::AddSites)?;
    shell.principal()?.require(Permission::MintKeys)?;
    let (site, note, aliases) = Default::default();
    Ok(page(&NewSitePage { shell, site, note, aliases, problem: None }))
}

pub(super) async fn add(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let who = shell.principal()?;
    // The rights are checked first, so that the response shows nothing about names to a user who may not add sites.
    who.require(Permission::AddSites)?;
    who.require(Permission::MintKeys)?;
    let site = field(&fields, "site");
    let note = field(&fields, "note");
    let aliases = field(&fields, "aliases");
    let added = match wanted(&site, &note, &aliases) {
        Ok(wanted) => state.add_site(who, wanted).await,
        Err(problem) => Err(errors::unprocessable(problem)),
    };
    match added {
        Ok(added) => Ok(page(&AddedSitePage { shell, added })),
        // The user can correct both errors in the form.
        Err(refused)
            if matches!(refused.status(), StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY) =>
        {
            let problem = Some(refused.detail().to_owned());
            let page = NewSitePage { shell, site, note, aliases, problem };
            Ok(page_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
        Err(refused) => Err(refused),
    }
}

fn wanted(site: &str, note: &str, aliases: &str) -> Result<WantedSite, String> {
    let site = SiteId::parse(site.trim()).map_err(|error| error.to_string())?;
    let aliases = aliases.split([' ', ',', '\t', '\r', '\n']).filter(|alias| !alias.is_empty());
    let aliases = aliases.map(Alias::parse).collect::<Result<BTreeSet<_>, _>>();
    Ok(WantedSite {
        site,
        note: note.trim().to_owned(),
        aliases: aliases.map_err(|error| error.to_string())?,
    })
}

pub(super) async fn rotate_key(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    let key = state.rotate_key(shell.principal()?, &site).await?;
    Ok(page(&AddedKeyPage { shell, site, key }))
}

pub(super) async fn enrol(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    let added = state.add_code(shell.principal()?, &site).await?;
    Ok(page(&EnrolmentCodePage { shell, added }))
}

pub(super) async fn revoke_key(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Path((_, key)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::RevokeKey(&key)).await?;
    Ok(back(&site, "key-revoked"))
}

pub(super) async fn add_alias(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Form(fields): Fields,
) -> Result<Response, HttpError> {
    let alias = field(&fields, "alias");
    state.change_site(shell.principal()?, &site, SiteChange::AddAlias(alias.trim())).await?;
    Ok(back(&site, "alias-added"))
}

pub(super) async fn remove_alias(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
    Path((_, alias)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::RemoveAlias(&alias)).await?;
    Ok(back(&site, "alias-removed"))
}

pub(super) async fn disable(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::Disable).await?;
    Ok(back(&site, "site-disabled"))
}

pub(super) async fn enable(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::Enable).await?;
    Ok(back(&site, "site-enabled"))
}

pub(super) async fn remove(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    VisibleSite(site): VisibleSite,
) -> Result<Response, HttpError> {
    state.change_site(shell.principal()?, &site, SiteChange::Remove).await?;
    Ok(done("/", "site-removed"))
}

/// Redirects to the page of the site, which shows what was done.
fn back(site: &SiteId, what: &str) -> Response {
    done(&format!("/sites/{site}"), what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_minute_stands_at_the_right_and_the_highest_value_at_the_top() {
        let point = |minute, bytes| Point { minute, bytes, ..Point::default() };
        let points = [point(100, 5), point(101, 10), point(102, 0)];
        assert_eq!(curve(&points, |point| Some(point.bytes as f64)), "57,8.0 58,1.0 59,15.0");
        assert_eq!(curve(&points, |point| point.rtt_ms), "");
        assert_eq!(curve(&[point(1, 0)], |point| Some(point.bytes as f64)), "");
    }
}
