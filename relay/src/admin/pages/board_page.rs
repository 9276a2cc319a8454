//! The board: all sites that the user may see, a hundred on a page.
//!
//! Search, filter and order are in the address, so the board works without scripts. `board.js` keeps the shown rows up
//! to date.

use std::{cmp::Reverse, sync::Arc};

use askama::Template;
use audiovault_common::http_error::HttpError;
use axum::{
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Shell, page, site_pages::curve};
use crate::{
    admin::AdminState,
    model::{
        account::Permission,
        operator_events::{AccessChange, Action},
    },
    monitoring::board::{RelayView, Row, SiteState, SiteView, Totals},
};

/// Sites on one page.
const PAGE: usize = 100;
/// Age of the newest recording from which the board highlights it, in seconds: a weekend and a holiday.
const STALE_AFTER: u64 = 3 * 86_400;

const STATES: [SiteState; 5] =
    [SiteState::Up, SiteState::Degraded, SiteState::Down, SiteState::NeverSeen, SiteState::Disabled];
/// Orders of the board, as the address names them. Each has a text `sort-<name>`.
const ORDERS: [&str; 7] = ["site", "state", "since", "searches", "errors", "rtt", "newest"];

/// The parameters of the address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    q: String,
    state: String,
    sort: String,
    page: usize,
}

#[derive(Template)]
#[template(path = "board.html")]
struct BoardPage {
    shell: Shell,
    wanted: Wanted,
    number: u64,
    rows: Vec<Arc<Row>>,
    matching: usize,
    totals: Totals,
    relay: RelayView,
}

pub(super) async fn show(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, HttpError> {
    let reader = shell.principal()?.clone();
    let snapshot = state.board.up_to_date().await;
    let visible: Vec<_> = snapshot.rows.iter().filter(|row| reader.may_see(&row.view.site)).collect();
    let totals = Totals::of(visible.iter().map(|row| &row.view));
    let mut rows: Vec<_> = visible.into_iter().filter(|row| wanted.takes(&row.view)).cloned().collect();
    sort(&mut rows, &wanted.sort);
    let matching = rows.len();
    let wanted = Wanted { page: wanted.page.clamp(1, matching.div_ceil(PAGE).max(1)), ..wanted };
    let rows = rows.into_iter().skip((wanted.page - 1) * PAGE).take(PAGE).collect();
    let number = snapshot.number;
    let relay = snapshot.relay.clone();
    Ok(page(&BoardPage { shell, wanted, number, rows, matching, totals, relay }))
}

impl Wanted {
    fn takes(&self, view: &SiteView) -> bool {
        if !self.state.is_empty() && self.state != view.state.as_str() {
            return false;
        }
        let q = self.q.trim().to_lowercase();
        q.is_empty()
            || view.site.as_str().contains(&q)
            || view.note.to_lowercase().contains(&q)
            || view.aliases.iter().any(|alias| alias.as_str().contains(&q))
            || view.agents.iter().any(|agent| agent.host.to_lowercase().contains(&q) || agent.version == q)
    }

    /// The address of the board with other values.
    fn address(&self, state: &str, page: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let page = page.to_string();
        let pairs = [("q", self.q.trim()), ("state", state), ("sort", &self.sort), ("page", &page)];
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty() && *value != "1") {
            query.append_pair(name, value);
        }
        format!("/?{}", query.finish())
    }
}

fn sort(rows: &mut [Arc<Row>], order: &str) {
    match order {
        "state" => rows.sort_by_key(|row| row.view.state),
        "since" => rows.sort_by_key(|row| Reverse(row.view.since)),
        "searches" => rows.sort_by_key(|row| Reverse(row.view.searches_last_hour)),
        "errors" => rows.sort_by_key(|row| {
            Reverse(row.view.errors_last_hour + u64::from(row.view.refused_last_hour.sum()))
        }),
        "rtt" => rows.sort_by(|a, b| b.view.rtt_ms.unwrap_or(-1.0).total_cmp(&a.view.rtt_ms.unwrap_or(-1.0))),
        // The oldest first, since these need attention. Sites that report no recordings come last.
        "newest" => rows.sort_by_key(|row| {
            let newest = row.view.recordings.as_ref().and_then(|recordings| recordings.newest);
            newest.unwrap_or(Timestamp::MAX)
        }),
        // The rows are already in the order of their names.
        _ => {}
    }
}

impl BoardPage {
    fn may_add(&self) -> bool {
        self.shell.may(Permission::AddSites) && self.shell.may(Permission::MintKeys)
    }

    fn order_name(&self, order: &str) -> String {
        self.shell.t(&format!("sort-{order}"))
    }

    fn orders(&self) -> [&'static str; 7] {
        ORDERS
    }

    /// Every state with its number of sites, its address, and whether it is the current filter.
    fn filters(&self) -> Vec<(SiteState, u64, String, bool)> {
        let Totals { up, degraded, down, never_seen, disabled } = self.totals;
        let filter = |(state, count): (SiteState, usize)| {
            let chosen = self.wanted.state == state.as_str();
            (state, count as u64, self.wanted.address(if chosen { "" } else { state.as_str() }, 1), chosen)
        };
        STATES.into_iter().zip([up, degraded, down, never_seen, disabled]).map(filter).collect()
    }

    /// The names of the states, as JSON for scripts.
    fn state_names(&self) -> String {
        let names = STATES.map(|state| (state.as_str(), self.shell.state(&state)));
        json!(names.into_iter().collect::<std::collections::BTreeMap<_, _>>()).to_string()
    }

    fn previous(&self) -> Option<String> {
        (self.wanted.page > 1).then(|| self.wanted.address(&self.wanted.state, self.wanted.page - 1))
    }

    fn next(&self) -> Option<String> {
        (self.wanted.page * PAGE < self.matching)
            .then(|| self.wanted.address(&self.wanted.state, self.wanted.page + 1))
    }

    fn rtt_curve(&self, row: &Row) -> String {
        curve(&row.series, |point| point.rtt_ms)
    }

    fn bytes_curve(&self, row: &Row) -> String {
        curve(&row.series, |point| Some(point.bytes as f64))
    }

    /// Seconds since the newest recording was written to.
    fn age(&self, row: &Row) -> Option<u64> {
        let newest = row.view.recordings.as_ref()?.newest?;
        u64::try_from(Timestamp::now().as_second() - newest.as_second()).ok()
    }

    /// A short text for a change of which agents can answer for the site.
    fn access_tag(&self, change: &AccessChange) -> String {
        let key = if change.action == Action::AgentAdded {
            "access-second-agent"
        } else if change.action == Action::AgentNewAddress {
            "access-new-address"
        } else {
            "access-new-key"
        };
        self.shell.t(key)
    }

    fn is_stale(&self, age: &u64) -> bool {
        *age > STALE_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_only_what_is_not_usual() {
        let wanted = Wanted { q: "acme madrid".to_owned(), sort: "state".to_owned(), ..Wanted::default() };
        assert_eq!(wanted.address("down", 1), "/?q=acme+madrid&state=down&sort=state");
        assert_eq!(Wanted::default().address("", 3), "/?page=3");
    }
}
