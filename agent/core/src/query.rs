//! A search query, and the start time of a call.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::call_id::CallId;

/// Whole seconds since the Unix epoch have at most this many digits until the year 5138; a longer number is in
/// milliseconds.
const SECONDS_DIGITS: usize = 11;

/// One search.
#[derive(Debug, Clone)]
pub struct Query {
    /// The call.
    pub call_id: CallId,
    /// When the call began, if the request contains it.
    pub start: Option<Timestamp>,
    /// The tenant of the PBX.
    pub tenant: Option<String>,
    /// The PBX that handled the call.
    pub server: Option<String>,
    /// The queue.
    pub queue: Option<String>,
    /// The agent who took the call (the person).
    pub agent: Option<String>,
    /// The other legs and files of the conversation.
    pub linked: Linked,
}

/// What belongs to the same conversation, according to the call detail records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linked {
    /// The call ids of the other legs.
    pub ids: Vec<CallId>,
    /// The names of the files in which it was recorded.
    pub files: Vec<String>,
}

impl Query {
    /// A search for a call by its id alone.
    pub fn new(call_id: CallId) -> Self {
        Self {
            call_id,
            start: None,
            tenant: None,
            server: None,
            queue: None,
            agent: None,
            linked: Linked::default(),
        }
    }

    /// Whether a file of this name belongs to the call or its conversation.
    pub fn wants(&self, name: &[u8]) -> bool {
        self.call_id.stands_in(name)
            || self.linked.ids.iter().any(|id| id.stands_in(name))
            // The file may have been converted since the call detail record was written.
            || self.linked.files.iter().any(|file| stem(file.as_bytes()) == stem(name))
    }

    /// When the call began: from the request, or else from the call id.
    pub fn began(&self) -> Option<Timestamp> {
        self.start.or_else(|| Timestamp::from_second(self.call_id.epoch()?).ok())
    }
}

/// A name without its extension.
fn stem(name: &[u8]) -> &[u8] {
    name.iter().rposition(|byte| *byte == b'.').and_then(|dot| name.get(..dot)).unwrap_or(name)
}

/// A text is not a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the start of the call is not a time: send seconds or milliseconds since 1970, ISO 8601, or YYYY-MM-DD hh:mm:ss"
)]
pub struct StartError;

/// Parses the start of a call: seconds or milliseconds since the Unix epoch (fractions are dropped), ISO 8601 with an
/// offset, or ISO 8601 or `YYYY-MM-DD hh:mm:ss` without one, which is then the site's local time.
///
/// # Errors
/// [`StartError`] for anything else, and for times beyond the year 9999.
pub fn parse_start(text: &str, zone: &TimeZone) -> Result<Timestamp, StartError> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !whole.is_empty() && digits(whole) && digits(fraction) {
        let number: i64 = whole.parse().map_err(|_| StartError)?;
        let read = if whole.len() > SECONDS_DIGITS {
            Timestamp::from_millisecond(number)
        } else {
            Timestamp::from_second(number)
        };
        return read.map_err(|_| StartError);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let local: DateTime = text.parse().map_err(|_| StartError)?;
    zone.to_timestamp(local).map_err(|_| StartError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_of_the_start_names_the_same_instant() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let expected = Timestamp::from_second(1_711_444_502).unwrap();
        for text in [
            "1711444502",
            "1711444502.25",
            "1711444502000",
            " 1711444502 ",
            "2024-03-26T09:15:02Z",
            "2024-03-26T10:15:02+01:00",
            "2024-03-26T10:15:02",
            "2024-03-26 10:15:02",
        ] {
            assert_eq!(parse_start(text, &zone), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            ".",
            "yesterday",
            "99999999999999999999",
            "9999999999999999",
            "-5",
            "26/03/2024",
            "1711444502,5",
        ] {
            assert_eq!(parse_start(text, &TimeZone::UTC), Err(StartError), "{text}");
        }
    }
}
