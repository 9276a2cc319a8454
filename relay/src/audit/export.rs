//! The audit log as CSV.

use crate::{
    audit::csv::{CsvRow, harmless_or_empty},
    model::audit::AuditEvent,
};

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

#[cfg(test)]
mod tests {
    use audiovault_protocol::{http::context::Client, identity::site::SiteId};

    use super::*;
    use crate::{
        audit::csv::{write_header, write_rows},
        model::audit::Kind,
    };

    #[test]
    fn strangers_words_are_quoted_and_are_no_formulas() {
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
