//! Operators' events as CSV (RFC 4180), for spreadsheets.

use std::io;

use csv::Writer;
use serde_json::Value;

use super::OperatorEvent;
use crate::audit::export::harmless;

/// The names of the columns, the same words as in the API.
pub const HEADER: [&str; 12] = [
    "id",
    "at",
    "actor_kind",
    "actor",
    "owner",
    "address",
    "action",
    "site",
    "subject",
    "before",
    "after",
    "reason",
];

/// The head of an export.
///
/// # Errors
/// What the writer says.
pub fn write_header(out: impl io::Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(HEADER)?;
    writer.flush()
}

/// Events, one line each; `before` and `after` are JSON.
///
/// # Errors
/// What the writer says.
pub fn write_events(out: impl io::Write, events: &[OperatorEvent]) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    for event in events {
        writer.write_record(line(event))?;
    }
    writer.flush()
}

fn line(event: &OperatorEvent) -> [String; 12] {
    let text = |value: &Option<String>| value.as_deref().map(harmless).unwrap_or_default();
    let json = |value: &Option<Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
    [
        event.id.clone(),
        event.at.to_string(),
        event.actor_kind.to_string(),
        harmless(&event.actor),
        text(&event.owner),
        text(&event.address),
        event.action.to_string(),
        event.site.as_ref().map(ToString::to_string).unwrap_or_default(),
        text(&event.subject),
        json(&event.before),
        json(&event.after),
        text(&event.reason),
    ]
}
