//! The audit log and the operators' events as CSV (RFC 4180), for spreadsheets. In the operators' events, the fields
//! `before` and `after` are JSON.

use std::io;

use csv::Writer;
use serde_json::Value;

use crate::model::{audit::AuditEvent, operator_events::OperatorEvent};

/// A row of an export that has `COLUMNS` columns.
pub trait CsvRow<const COLUMNS: usize> {
    /// The names of the columns, the same as in the API.
    const HEADER: [&'static str; COLUMNS];

    /// The fields. Texts that may come from an unauthenticated client have passed [`harmless`].
    fn fields(&self) -> [String; COLUMNS];
}

/// Writes the header line of an export.
///
/// # Errors
/// The errors of the writer.
pub fn write_header<R: CsvRow<COLUMNS>, const COLUMNS: usize>(out: impl io::Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(R::HEADER)?;
    writer.flush()
}

/// Writes rows, one line each.
///
/// # Errors
/// The errors of the writer.
pub fn write_rows<R: CsvRow<COLUMNS>, const COLUMNS: usize>(
    out: impl io::Write,
    rows: &[R],
) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    for row in rows {
        writer.write_record(row.fields())?;
    }
    writer.flush()
}

/// Makes sure that a spreadsheet does not read a text from an unauthenticated client as a formula.
pub fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() }
}

/// As [`harmless`]; `None` becomes an empty field.
pub fn harmless_or_empty(text: Option<&str>) -> String {
    text.map(harmless).unwrap_or_default()
}

impl CsvRow<18> for AuditEvent {
    const HEADER: [&'static str; 18] = [
        "opened",
        "closed",
        "kind",
        "site",
        "tenant",
        "call_id",
        "recording",
        "user",
        "client",
        "user_agent",
        "status",
        "outcome",
        "found",
        "range_start",
        "bytes",
        "size",
        "seconds",
        "request_id",
    ];

    fn fields(&self) -> [String; 18] {
        let text = |value: &Option<String>| harmless_or_empty(value.as_deref());
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        [
            self.opened.to_string(),
            self.closed.map(|closed| closed.to_string()).unwrap_or_default(),
            self.kind.to_string(),
            self.site.to_string(),
            text(&self.tenant),
            text(&self.call_id),
            text(&self.recording),
            text(&self.user),
            text(&self.client),
            text(&self.user_agent),
            self.status.to_string(),
            self.outcome.to_string(),
            number(self.found.map(u64::from)),
            number(self.range_start),
            self.bytes.to_string(),
            number(self.size),
            self.seconds().map(|seconds| format!("{seconds:.1}")).unwrap_or_default(),
            self.request_id.clone(),
        ]
    }
}

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

#[cfg(test)]
mod tests {
    use audiovault_protocol::{http::context::Client, identity::site::SiteId};

    use super::{write_header, write_rows, *};
    use crate::model::audit::Kind;

    #[test]
    fn texts_of_clients_are_quoted_and_are_no_formulas() {
        let client = Client { address: None, user_agent: Some("=cmd|' /C calc'!A0, \"x\"".to_owned()) };
        let site = SiteId::parse("acme").unwrap();
        let event = AuditEvent::new(Kind::Search, "r1".to_owned(), site, &client);
        let mut out = Vec::new();
        write_header::<AuditEvent, _>(&mut out).unwrap();
        write_rows(&mut out, &[event]).unwrap();
        let mut read = csv::Reader::from_reader(out.as_slice());
        assert_eq!(read.headers().unwrap(), &AuditEvent::HEADER[..]);
        let record = read.records().next().unwrap().unwrap();
        assert_eq!(&record[9], "'=cmd|' /C calc'!A0, \"x\"");
        assert_eq!(&record[17], "r1");
    }
}
