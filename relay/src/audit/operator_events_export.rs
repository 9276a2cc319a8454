//! Operators' events as CSV; the fields `before` and `after` are JSON.

use serde_json::Value;

use crate::{
    audit::csv::{CsvRow, harmless, harmless_or_empty},
    model::operator_events::OperatorEvent,
};

impl CsvRow<12> for OperatorEvent {
    const HEADER: [&'static str; 12] = [
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

    fn fields(&self) -> [String; 12] {
        let text = |value: &Option<String>| harmless_or_empty(value.as_deref());
        let json = |value: &Option<Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
        [
            self.id.clone(),
            self.at.to_string(),
            self.actor_kind.to_string(),
            harmless(&self.actor),
            text(&self.owner),
            text(&self.address),
            self.action.to_string(),
            self.site.as_ref().map(ToString::to_string).unwrap_or_default(),
            text(&self.subject),
            json(&self.before),
            json(&self.after),
            text(&self.reason),
        ]
    }
}
