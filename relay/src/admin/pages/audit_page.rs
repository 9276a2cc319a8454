//! The audit log: searches and deliveries with filters, a hundred on a page, and as CSV.

use std::sync::Arc;

use askama::Template;
use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::SiteId;
use axum::{
    Form,
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Shell, done, page, user_pages::field};
use crate::{
    admin::{AdminState, errors},
    model::{
        account::Permission,
        audit::{AuditEvent, Kind, Outcome},
    },
    store::{AuditFilter, Cursor},
};

/// Events on one page.
const PAGE: u32 = 100;

/// The parameters of the address. An empty one does not narrow the result.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    site: String,
    kind: String,
    outcome: String,
    call_id: String,
    tenant: String,
    user: String,
    client: String,
    from: String,
    until: String,
    after: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    shell: Shell,
    wanted: Wanted,
    events: Vec<AuditEvent>,
    problem: Option<String>,
}

pub(super) async fn show(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, HttpError> {
    let reader = shell.principal()?;
    let (events, problem) = match wanted.filter() {
        Ok(filter) => (state.audit(reader, filter, PAGE).await?, None),
        Err(key) => (Vec::new(), Some(shell.t(key))),
    };
    Ok(page(&AuditPage { shell, wanted, events, problem }))
}

/// All events of the filter as CSV, read and sent piece by piece.
pub(super) async fn export(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, HttpError> {
    let reader = shell.principal()?;
    let filter = wanted.filter().map_err(|key| errors::unprocessable(shell.t(key)))?;
    Ok(state.audit_csv(reader, filter).await?)
}

pub(super) async fn erase(
    shell: Shell,
    State(state): State<Arc<AdminState>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, HttpError> {
    let user = shell.principal()?;
    state.erase_call(user, &field(&fields, "call_id"), &field(&fields, "reason")).await?;
    Ok(done("/audit", "call-erased"))
}

impl Wanted {
    /// The filter that the parameters mean.
    ///
    /// # Errors
    /// The text key of the problem, if a parameter cannot be parsed.
    fn filter(&self) -> Result<AuditFilter, &'static str> {
        let text = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        let moment = |value: &str| text(value).map(|value| moment(&value)).transpose();
        Ok(AuditFilter {
            within: None,
            site: text(&self.site)
                .map(|site| SiteId::parse(&site))
                .transpose()
                .map_err(|_| "problem-site-name")?,
            kind: text(&self.kind)
                .map(|kind| kind.parse::<Kind>())
                .transpose()
                .map_err(|_| "problem-filter")?,
            outcome: text(&self.outcome)
                .map(|outcome| outcome.parse::<Outcome>())
                .transpose()
                .map_err(|_| "problem-filter")?,
            call_id: text(&self.call_id),
            tenant: text(&self.tenant),
            user: text(&self.user),
            client: text(&self.client),
            from: moment(&self.from)?,
            until: moment(&self.until)?,
            after: text(&self.after).map(Cursor::try_from).transpose().map_err(|_| "problem-filter")?,
        })
    }

    fn pairs(&self) -> [(&'static str, &str); 9] {
        [
            ("site", &self.site),
            ("kind", &self.kind),
            ("outcome", &self.outcome),
            ("call_id", &self.call_id),
            ("tenant", &self.tenant),
            ("user", &self.user),
            ("client", &self.client),
            ("from", &self.from),
            ("until", &self.until),
        ]
    }

    fn address(&self, path: &str, after: Option<&AuditEvent>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.pairs().into_iter().filter(|(_, value)| !value.trim().is_empty()) {
            query.append_pair(name, value);
        }
        if let Some(event) = after {
            query.append_pair("after", &String::from(Cursor::at(event)));
        }
        format!("{path}?{}", query.finish())
    }
}

/// Parses a time as the API writes it, or as a date field of a browser sends it, which is read as UTC.
pub(super) fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let civil = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    text.parse().ok().or_else(|| civil().map(|zoned| zoned.timestamp())).ok_or("problem-time")
}

impl AuditPage {
    fn older(&self) -> Option<String> {
        let full = self.events.len() == PAGE as usize;
        full.then(|| self.wanted.address("/audit", self.events.last()))
    }

    fn export_address(&self) -> String {
        self.wanted.address("/audit.csv", None)
    }

    fn may_erase(&self) -> bool {
        self.shell.may(Permission::EraseAudit)
    }

    fn kind_name(&self, kind: &str) -> String {
        self.shell.t(&format!("kind-{kind}"))
    }

    fn outcome_name(&self, outcome: &str) -> String {
        self.shell.t(&format!("outcome-{outcome}"))
    }

    fn kinds(&self) -> [&'static str; 3] {
        ["search", "delivery", "suppressed"]
    }

    fn outcomes(&self) -> [&'static str; 5] {
        ["complete", "left", "cut", "refused", "open"]
    }

    /// What was delivered, in words. For a delivery without a recorded end, the size is a lower bound.
    fn delivered(&self, event: &AuditEvent) -> String {
        let found = |key| event.found.map(|found| self.shell.t1(key, "count", &found)).unwrap_or_default();
        match event.kind {
            Kind::Search => return found("audit-found"),
            Kind::Suppressed => return found("audit-suppressed"),
            Kind::Delivery => {}
        }
        let size = self.shell.size(&event.bytes);
        let bytes =
            if event.closed.is_none() { self.shell.t1("audit-at-least", "size", &size) } else { size };
        match event.range_start {
            Some(start) if start > 0 => {
                self.shell.t2("audit-from-byte", ("size", &bytes), ("start", &self.shell.number(&start)))
            }
            _ => bytes,
        }
    }

    fn sound(&self, event: &AuditEvent) -> String {
        event.seconds().map(|seconds| self.shell.duration(&(seconds.round() as u64))).unwrap_or_default()
    }
}
