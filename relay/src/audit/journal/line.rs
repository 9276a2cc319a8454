//! A line of the spool: one record in JSON.
//!
//! Events and the progress of deliveries are nearly all of it, so they have short names there, times in milliseconds as
//! in the database, and no names without values. Other records are written as they are. So were all records in earlier
//! releases, whose lines are read too.

use audiovault_protocol::identity::site::SiteId;
use jiff::{
    Timestamp,
    fmt::serde::timestamp::millisecond::{optional, required},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    model::audit::{AuditEvent, Kind, Outcome},
    store::{Progress, Record},
};

/// The record of a line without its line break.
///
/// # Errors
/// [`serde_json::Error`] if the line is no record.
pub(super) fn read(line: &[u8]) -> serde_json::Result<Record> {
    match serde_json::from_slice(line) {
        Ok(Short::Event(event)) => Ok(Record::Audit(event)),
        Ok(Short::Progress(progress)) => Ok(Record::Progress(progress)),
        Err(error) => serde_json::from_slice(line).map_err(|_| error),
    }
}

/// Appends the line of a record, with its line break.
///
/// # Errors
/// [`serde_json::Error`]; a part of the line may have been appended then.
pub(super) fn write(lines: &mut Vec<u8>, record: &Record) -> serde_json::Result<()> {
    match record {
        Record::Audit(event) => serde_json::to_writer(&mut *lines, &ShortRef::Event(event))?,
        Record::Progress(progress) => serde_json::to_writer(&mut *lines, &ShortRef::Progress(progress))?,
        Record::TunnelOpened(_) | Record::TunnelClosed { .. } | Record::Traffic(_) | Record::Alive { .. } => {
            serde_json::to_writer(&mut *lines, record)?
        }
    }
    lines.push(b'\n');
    Ok(())
}

#[derive(Serialize)]
enum ShortRef<'a> {
    #[serde(rename = "e")]
    Event(#[serde(serialize_with = "short_event")] &'a AuditEvent),
    #[serde(rename = "p")]
    Progress(#[serde(serialize_with = "short_progress")] &'a Progress),
}

#[derive(Deserialize)]
enum Short {
    #[serde(rename = "e")]
    Event(#[serde(deserialize_with = "long_event")] Box<AuditEvent>),
    #[serde(rename = "p")]
    Progress(#[serde(deserialize_with = "long_progress")] Progress),
}

fn short_event<S: Serializer>(event: &&AuditEvent, serializer: S) -> Result<S::Ok, S::Error> {
    ShortEvent::serialize(event, serializer)
}

fn short_progress<S: Serializer>(progress: &&Progress, serializer: S) -> Result<S::Ok, S::Error> {
    ShortProgress::serialize(progress, serializer)
}

fn long_event<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<AuditEvent>, D::Error> {
    ShortEvent::deserialize(deserializer).map(Box::new)
}

fn long_progress<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Progress, D::Error> {
    ShortProgress::deserialize(deserializer)
}

/// The names of an event's fields in the spool.
#[derive(Serialize, Deserialize)]
#[serde(remote = "AuditEvent")]
struct ShortEvent {
    #[serde(rename = "i")]
    request_id: String,
    #[serde(rename = "k")]
    kind: Kind,
    #[serde(rename = "s")]
    site: SiteId,
    #[serde(rename = "t", with = "required")]
    opened: Timestamp,
    #[serde(rename = "u", with = "optional", default, skip_serializing_if = "Option::is_none")]
    closed: Option<Timestamp>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    call_id: Option<String>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    recording: Option<String>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(rename = "h")]
    status: u16,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    found: Option<u32>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    range_start: Option<u64>,
    #[serde(rename = "b")]
    bytes: u64,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<u32>,
    #[serde(rename = "o")]
    outcome: Outcome,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
}

/// The names of the fields of a delivery's progress in the spool.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Progress")]
struct ShortProgress {
    #[serde(rename = "i")]
    request_id: String,
    #[serde(rename = "b")]
    bytes: u64,
    #[serde(rename = "u", with = "optional", default, skip_serializing_if = "Option::is_none")]
    closed: Option<Timestamp>,
    #[serde(rename = "o")]
    outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::http::context::Client;

    use super::*;

    fn whole() -> AuditEvent {
        let client =
            Client { address: Some("203.0.113.9".to_owned()), user_agent: Some("Firefox".to_owned()) };
        let site = SiteId::parse("acme").unwrap();
        AuditEvent {
            opened: Timestamp::from_millisecond(1_711_441_902_170).unwrap(),
            closed: Some(Timestamp::from_millisecond(1_711_441_902_171).unwrap()),
            tenant: Some("t".to_owned()),
            call_id: Some("1711441902.17".to_owned()),
            recording: Some("in-600.wav".to_owned()),
            user: Some("robin \"r\"\n\0".to_owned()),
            status: 206,
            found: Some(2),
            range_start: Some(3),
            bytes: 4,
            size: Some(5),
            bytes_per_second: Some(6),
            outcome: Outcome::Complete,
            run: Some("r0".to_owned()),
            ..AuditEvent::new(Kind::Delivery, "r1".to_owned(), site, &client)
        }
    }

    fn bare() -> AuditEvent {
        let site = SiteId::parse("acme").unwrap();
        let event = AuditEvent::new(Kind::Search, "r2".to_owned(), site, &Client::default());
        AuditEvent { opened: Timestamp::from_millisecond(1_711_441_902_170).unwrap(), ..event }
    }

    fn line(record: &Record) -> Vec<u8> {
        let mut line = Vec::new();
        write(&mut line, record).unwrap();
        line
    }

    #[test]
    fn events_come_out_of_a_line_whole_and_so_they_do_from_a_line_of_an_earlier_release() {
        for event in [whole(), bare()] {
            let record = Record::Audit(Box::new(event.clone()));
            let short = line(&record);
            let long = serde_json::to_vec(&record).unwrap();
            assert!(short.len() * 3 < long.len() * 2, "{}", String::from_utf8_lossy(&short));
            for line in [&short, &long] {
                let Record::Audit(read) = read(line).unwrap() else { panic!("an event") };
                assert_eq!(*read, event);
            }
        }
    }

    #[test]
    fn other_records_come_out_of_a_line_whole_and_from_a_line_of_an_earlier_release() {
        let closed = Some(Timestamp::from_millisecond(1_711_441_902_171).unwrap());
        let progress = |closed| {
            Record::Progress(Progress {
                request_id: "r1".to_owned(),
                bytes: 7,
                closed,
                outcome: Outcome::Left,
            })
        };
        let ended = Record::TunnelClosed {
            session: "s".to_owned(),
            site: SiteId::parse("acme").unwrap(),
            back_soon: true,
            closed: Timestamp::now(),
            reason: "why".to_owned(),
        };
        for record in [progress(closed), progress(None), ended] {
            let long = serde_json::to_vec(&record).unwrap();
            for line in [&line(&record), &long] {
                assert_eq!(serde_json::to_vec(&read(line).unwrap()).unwrap(), long);
            }
        }
        assert!(read(b"{\"e\":{\"i\":\"r3").is_err());
    }
}
