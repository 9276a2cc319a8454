//! Audit events as CSV (RFC 4180), for spreadsheets.

use std::io;

use csv::Writer;

use super::AuditEvent;

/// The names of the columns, the same words as in the API.
pub const HEADER: [&str; 18] = [
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

/// The head of an export.
///
/// # Errors
/// What the writer says.
pub fn write_header(out: impl io::Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(HEADER)?;
    writer.flush()
}

/// Events, one line each.
///
/// # Errors
/// What the writer says.
pub fn write_events(out: impl io::Write, events: &[AuditEvent]) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    for event in events {
        writer.write_record(line(event))?;
    }
    writer.flush()
}

fn line(event: &AuditEvent) -> [String; 18] {
    let text = |value: &Option<String>| value.as_deref().map(harmless).unwrap_or_default();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    [
        event.opened.to_string(),
        event.closed.map(|closed| closed.to_string()).unwrap_or_default(),
        event.kind.to_string(),
        event.site.to_string(),
        text(&event.tenant),
        text(&event.call_id),
        text(&event.recording),
        text(&event.user),
        text(&event.client),
        text(&event.user_agent),
        event.status.to_string(),
        event.outcome.to_string(),
        number(event.found.map(u64::from)),
        number(event.range_start),
        event.bytes.to_string(),
        number(event.size),
        event.seconds().map(|seconds| format!("{seconds:.1}")).unwrap_or_default(),
        event.request_id.clone(),
    ]
}

/// Keeps a spreadsheet from taking a stranger's words for a formula.
pub(crate) fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::{context::Client, site::SiteId};

    use super::*;
    use crate::audit::Kind;

    #[test]
    fn strangers_words_are_quoted_and_are_no_formulas() {
        let client = Client { address: None, user_agent: Some("=cmd|' /C calc'!A0, \"x\"".to_owned()) };
        let site = SiteId::parse("acme").unwrap();
        let event = AuditEvent::new(Kind::Search, "r1".to_owned(), site, &client);
        let mut out = Vec::new();
        write_header(&mut out).unwrap();
        write_events(&mut out, &[event]).unwrap();
        let mut read = csv::Reader::from_reader(out.as_slice());
        assert_eq!(read.headers().unwrap(), &HEADER[..]);
        let record = read.records().next().unwrap().unwrap();
        assert_eq!(&record[9], "'=cmd|' /C calc'!A0, \"x\"");
        assert_eq!(&record[17], "r1");
    }
}
