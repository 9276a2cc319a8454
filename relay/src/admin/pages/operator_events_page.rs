//! The operators' events with filters, a hundred on a page, and as CSV.

use std::sync::Arc;

use askama::Template;
use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Shell, audit_page::moment, page};
use crate::{
    admin::{AdminState, errors},
    model::operator_events::{Action, OperatorEvent},
    store::{Cursor, OperatorFilter},
};

/// Events on one page.
const PAGE: u32 = 100;

/// The parameters of the address. An empty one does not narrow the result.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventFilter {
    site: String,
    action: String,
    actor: String,
    from: String,
    until: String,
    after: String,
}

#[derive(Template)]
#[template(path = "operator_events.html")]
struct OperatorEventsPage {
    shell: Shell,
    filter: EventFilter,
    events: Vec<OperatorEvent>,
    problem: Option<String>,
}

pub(super) async fn show(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<EventFilter>,
) -> Result<Response, HttpError> {
    let reader = shell.principal()?;
    let (events, problem) = match filter.parse() {
        Ok(parsed) => (state.operator_events(reader, parsed, PAGE).await?, None),
        Err(key) => (Vec::new(), Some(shell.t(key))),
    };
    Ok(page(&OperatorEventsPage { shell, filter, events, problem }))
}

/// All events of the filter as CSV, read and sent piece by piece.
pub(super) async fn export(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Query(filter): Query<EventFilter>,
) -> Result<Response, HttpError> {
    let reader = shell.principal()?;
    let filter = filter.parse().map_err(|key| errors::unprocessable(shell.t(key)))?;
    Ok(state.operator_events_csv(reader, filter).await?)
}

impl EventFilter {
    /// The filter that the parameters mean.
    ///
    /// # Errors
    /// The text key of the problem, if a parameter cannot be parsed.
    fn parse(&self) -> Result<OperatorFilter, &'static str> {
        let text = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        let moment = |value: &str| text(value).map(|value| moment(&value)).transpose();
        let site = text(&self.site).map(|site| SiteId::parse(&site)).transpose();
        let action = text(&self.action).map(|action| action.parse::<Action>()).transpose();
        Ok(OperatorFilter {
            within: None,
            site: site.map_err(|_| "problem-site-name")?,
            action: action.map_err(|_| "problem-filter")?,
            one_of: Vec::new(),
            actor: text(&self.actor),
            from: moment(&self.from)?,
            until: moment(&self.until)?,
            after: text(&self.after).map(Cursor::try_from).transpose().map_err(|_| "problem-filter")?,
        })
    }

    fn address(&self, path: &str, after: Option<&OperatorEvent>) -> String {
        let pairs = [
            ("site", &self.site),
            ("action", &self.action),
            ("actor", &self.actor),
            ("from", &self.from),
            ("until", &self.until),
        ];
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.trim().is_empty()) {
            query.append_pair(name, value);
        }
        if let Some(event) = after {
            query.append_pair("after", &String::from(Cursor::at_event(event)));
        }
        format!("{path}?{}", query.finish())
    }
}

impl OperatorEventsPage {
    fn older(&self) -> Option<String> {
        let full = self.events.len() == PAGE as usize;
        full.then(|| self.filter.address("/operator-events", self.events.last()))
    }

    fn export_address(&self) -> String {
        self.filter.address("/operator-events.csv", None)
    }

    fn actions(&self) -> &'static [Action] {
        Action::ALL
    }

    fn action_name(&self, action: &Action) -> String {
        self.shell.t(&action.text_key())
    }

    fn is_chosen(&self, action: &Action) -> bool {
        self.filter.action == action.as_str()
    }

    fn kind_name(&self, event: &OperatorEvent) -> String {
        self.shell.t(&format!("actor-{}", event.actor_kind))
    }

    fn text(&self, value: &Value) -> String {
        value.to_string()
    }
}
