//! The parameters of a search, as the client sent them: in the query string, in a form or in JSON, also mixed.
//!
//! The field names that QueueMetrics' `JsonListener` sends are not public, so every accepted name is in one table. The
//! relay reads the parameters to find the site, and the agent to search. Both use this module.

use std::fmt;

use serde_json::value::RawValue;

/// Most fields that one request may carry; a search has nine of its own.
pub const MAX_FIELDS: usize = 64;
/// Longest value of one field in bytes; the longest sensible value is a token, or a call id as long as a file name.
pub const MAX_VALUE_LEN: usize = 1024;

/// A field that a search may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Which site is meant, if the path does not say.
    Site,
    /// Which customer inside a multi-tenant PBX.
    Tenant,
    /// The search token.
    Token,
    /// The id of the call.
    CallId,
    /// When the call began.
    Start,
    /// The agent who took the call (the person, not the program).
    Agent,
    /// The queue that the call came through.
    Queue,
    /// The PBX that handled the call.
    Server,
    /// The QueueMetrics user for whom the search is made; kept only for the audit log.
    User,
}

const FIELDS: usize = 9;

/// Every accepted name, in lower case. Names are compared without regard to case.
pub const NAMES: &[(&str, Field)] = &[
    ("site", Field::Site),
    ("tenant", Field::Tenant),
    ("token", Field::Token),
    ("searchtoken", Field::Token),
    ("search_token", Field::Token),
    ("secret", Field::Token),
    ("callid", Field::CallId),
    ("call_id", Field::CallId),
    ("uniqueid", Field::CallId),
    ("unique_id", Field::CallId),
    ("asteriskid", Field::CallId),
    ("asterisk_id", Field::CallId),
    ("start", Field::Start),
    ("starttime", Field::Start),
    ("start_time", Field::Start),
    ("callstart", Field::Start),
    ("call_start", Field::Start),
    ("timestamp", Field::Start),
    ("agent", Field::Agent),
    ("agentid", Field::Agent),
    ("agent_id", Field::Agent),
    ("queue", Field::Queue),
    ("queueid", Field::Queue),
    ("queue_id", Field::Queue),
    ("server", Field::Server),
    ("serverid", Field::Server),
    ("server_id", Field::Server),
    ("user", Field::User),
    ("username", Field::User),
];

/// Why parameters could not be read. Values never appear in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The body claims to be JSON, or looks like it, and is not a JSON object.
    #[error("the request body is not a JSON object")]
    NotAnObject,
    /// The body is neither UTF-8 form data nor JSON.
    #[error("the request body is not UTF-8 text")]
    NotText,
    /// More than [`MAX_FIELDS`] fields.
    #[error("the request has more than {MAX_FIELDS} fields")]
    TooMany,
    /// A value longer than [`MAX_VALUE_LEN`].
    #[error("a field of the request is longer than {MAX_VALUE_LEN} bytes")]
    TooLong,
}

/// The parameters of one search. Empty values count as absent.
///
/// `Debug` names the fields that are present and shows no value: tokens are secret, call data is personal.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    values: [Option<String>; FIELDS],
    /// Every value that was given for [`Field::Token`]; the last one counts.
    tokens: Vec<String>,
    unknown: Vec<String>,
}

/// Every non-empty value that a request gives for one of these names, in the order in which they are read. Names are
/// compared without regard to case. A relay uses this to find the token where an agent has other names for it.
///
/// # Errors
/// [`ParameterError`], as [`Parameters::read`].
pub fn values_named(
    names: &[String],
    query: Option<&str>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Vec<String>, ParameterError> {
    let mut values = Vec::new();
    each_field(query, content_type, body, |name, value| {
        let value = value.trim();
        if !value.is_empty() && names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            values.push(value.to_owned());
        }
    })?;
    Ok(values)
}

/// The names of the token for an agent that has its own names, which take precedence over the accepted ones.
pub fn token_names(names: &[(String, Field)]) -> Vec<String> {
    let is_first = |name: &str| !names.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let own = names.iter().map(|(name, field)| (name.as_str(), *field));
    let all = own.chain(NAMES.iter().copied().filter(|(name, _)| is_first(name)));
    all.filter(|(_, field)| *field == Field::Token).map(|(name, _)| name.to_owned()).collect()
}

impl Parameters {
    /// Reads the query string and the body. If both have a field, the body wins.
    ///
    /// A body is JSON if its media type says so or if it starts with `{`, and a form otherwise.
    ///
    /// # Errors
    /// [`ParameterError`] if the body is malformed or a limit is exceeded.
    pub fn read(
        query: Option<&str>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Self, ParameterError> {
        Self::read_with(&[], query, content_type, body)
    }

    /// Reads parameters as [`Parameters::read`] does, with names that take precedence over the accepted ones.
    ///
    /// # Errors
    /// [`ParameterError`], as [`Parameters::read`].
    pub fn read_with(
        names: &[(String, Field)],
        query: Option<&str>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Self, ParameterError> {
        let mut reading = Reading { names, read: Self::default() };
        each_field(query, content_type, body, |name, value| reading.set(name, value))?;
        Ok(reading.read)
    }

    /// The value of a field, if it was given and is not empty.
    pub fn value(&self, field: Field) -> Option<&str> {
        self.values[field as usize].as_deref()
    }

    /// Every non-empty value that was given under a name of the token, in the order in which they were read.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Names that are in no table, for the log: only names, never values.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

/// Reads the fields of the query string, then those of the body.
fn each_field(
    query: Option<&str>,
    content_type: Option<&str>,
    body: &[u8],
    take: impl FnMut(&str, &str),
) -> Result<(), ParameterError> {
    let mut fields = Fields { take, count: 0 };
    if let Some(query) = query {
        fields.read_form(query.as_bytes())?;
    }
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(());
    }
    let says_json = content_type.is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
    if says_json || body.starts_with(b"{") {
        fields.read_json(body)
    } else {
        std::str::from_utf8(body).map_err(|_| ParameterError::NotText)?;
        fields.read_form(body)
    }
}

/// The reader of fields, which enforces their limits.
struct Fields<T> {
    take: T,
    count: usize,
}

impl<T: FnMut(&str, &str)> Fields<T> {
    fn read_form(&mut self, text: &[u8]) -> Result<(), ParameterError> {
        for (name, value) in url::form_urlencoded::parse(text) {
            self.field(&name, &value)?;
        }
        Ok(())
    }

    fn read_json(&mut self, text: &[u8]) -> Result<(), ParameterError> {
        // Raw values keep `1711444502.17` as it was written; a float would lose digits.
        let object: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_slice(text).map_err(|_| ParameterError::NotAnObject)?;
        for (name, raw) in object {
            let raw = raw.get();
            match raw.as_bytes().first() {
                Some(b'"') => {
                    let value: String = serde_json::from_str(raw).map_err(|_| ParameterError::NotAnObject)?;
                    self.field(&name, &value)?;
                }
                Some(b'0'..=b'9' | b'-') => self.field(&name, raw)?,
                // null, booleans, arrays and objects have no value that a search could use.
                _ => self.field(&name, "")?,
            }
        }
        Ok(())
    }

    fn field(&mut self, name: &str, value: &str) -> Result<(), ParameterError> {
        self.count += 1;
        if self.count > MAX_FIELDS {
            return Err(ParameterError::TooMany);
        }
        if value.len() > MAX_VALUE_LEN || name.len() > MAX_VALUE_LEN {
            return Err(ParameterError::TooLong);
        }
        (self.take)(name, value);
        Ok(())
    }
}

/// Parameters while they are read.
struct Reading<'a> {
    /// Names that take precedence over the accepted ones.
    names: &'a [(String, Field)],
    read: Parameters,
}

impl Reading<'_> {
    fn set(&mut self, name: &str, value: &str) {
        let other = self.names.iter().map(|(known, field)| (known.as_str(), field));
        let all = other.chain(NAMES.iter().map(|(known, field)| (*known, field)));
        let Some((_, field)) = all.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            self.read.unknown.push(name.to_owned());
            return;
        };
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        if *field == Field::Token {
            self.read.tokens.push(value.to_owned());
        }
        self.read.values[*field as usize] = Some(value.to_owned());
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = NAMES.iter().filter(|(_, field)| self.value(*field).is_some()).map(|(_, field)| field);
        f.debug_set().entries(present).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_from_query_form_and_json_alike() {
        let form = Parameters::read(Some("tenant=a"), None, b"token=t&callid=1711444502.17").unwrap();
        let json = Parameters::read(
            Some("tenant=a"),
            Some("application/json; charset=utf-8"),
            br#"{"searchToken":"t","uniqueid":1711444502.17}"#,
        )
        .unwrap();
        let query = Parameters::read(Some("tenant=a&TOKEN=t&asteriskid=1711444502.17"), None, b"").unwrap();
        assert!(form == json && json == query);
        assert_eq!(form.value(Field::CallId), Some("1711444502.17"));
    }

    #[test]
    fn the_body_wins_and_empty_values_are_absent() {
        let read = Parameters::read(Some("queue=a&agent=x"), None, b"queue=b&agent=").unwrap();
        assert_eq!(read.value(Field::Queue), Some("b"));
        assert_eq!(read.value(Field::Agent), Some("x"));
    }

    #[test]
    fn numbers_keep_their_digits() {
        let read = Parameters::read(None, None, br#"{"callid": 1711444502.10}"#).unwrap();
        assert_eq!(read.value(Field::CallId), Some("1711444502.10"));
    }

    #[test]
    fn unknown_names_are_kept_for_the_log() {
        let read = Parameters::read(Some("foo=secret"), None, b"").unwrap();
        assert_eq!(read.unknown(), ["foo"]);
    }

    #[test]
    fn limits_are_exact() {
        let fields = |n: usize| (0..n).map(|i| format!("x{i}=1")).collect::<Vec<_>>().join("&");
        assert!(Parameters::read(Some(&fields(MAX_FIELDS)), None, b"").is_ok());
        assert_eq!(
            Parameters::read(Some(&fields(MAX_FIELDS + 1)), None, b"").unwrap_err(),
            ParameterError::TooMany
        );
        let value = |n: usize| format!("callid={}", "1".repeat(n));
        assert!(Parameters::read(None, None, value(MAX_VALUE_LEN).as_bytes()).is_ok());
        assert_eq!(
            Parameters::read(None, None, value(MAX_VALUE_LEN + 1).as_bytes()).unwrap_err(),
            ParameterError::TooLong
        );
    }

    #[test]
    fn malformed_bodies_are_named() {
        assert_eq!(Parameters::read(None, None, b"{").unwrap_err(), ParameterError::NotAnObject);
        assert_eq!(
            Parameters::read(None, Some("application/json"), b"[1]").unwrap_err(),
            ParameterError::NotAnObject
        );
        assert_eq!(Parameters::read(None, None, b"\xff\xfe").unwrap_err(), ParameterError::NotText);
    }

    #[test]
    fn every_value_that_may_be_the_token_is_kept() {
        let read = Parameters::read(Some("token=a&secret=&TOKEN=b"), None, b"search_token=c&key=d").unwrap();
        assert_eq!(
            (read.value(Field::Token), read.tokens()),
            (Some("c"), &["a", "b", "c"].map(String::from)[..])
        );
        let names = ["key", "secret"].map(String::from);
        let named =
            values_named(&names, Some("KEY=a&token=b"), None, br#"{"secret": "c", "x": "d"}"#).unwrap();
        assert_eq!(named, ["a", "c"]);
        assert_eq!(values_named(&names, None, None, b"{").unwrap_err(), ParameterError::NotAnObject);
    }

    #[test]
    fn names_of_the_token_are_those_that_are_not_given_another_meaning() {
        let names = [("Token".to_owned(), Field::CallId), ("key".to_owned(), Field::Token)];
        assert_eq!(token_names(&names), ["key", "searchtoken", "search_token", "secret"]);
        assert_eq!(token_names(&[]), ["token", "searchtoken", "search_token", "secret"]);
    }

    #[test]
    fn debug_shows_no_value() {
        let read = Parameters::read(Some("token=hunter22"), None, b"").unwrap();
        assert!(!format!("{read:?}").contains("hunter22"));
    }
}
