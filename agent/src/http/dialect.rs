//! The dialect file: the field mapping of a search, and another shape for its response.
//!
//! The admin writes the file, so that no new version of this program is needed for what QueueMetrics turns out to
//! send and expect.
//!
//! ```toml
//! [request]                     # what the client sends = what it means
//! uid = "callid"
//! key = "token"
//!
//! [response]                    # the response, with $ for what is filled in
//! found = "$count"
//! audio = ["$each", { name = "$filename", href = "$url", seconds = "$duration" }]
//! ```

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use audiovault_common::advice::Advice;
use audiovault_protocol::{
    http::{
        parameters::{Field, NAMES, token_names},
        search_answer::is_address,
    },
    message::{MAX_TOKEN_FIELD_LEN, MAX_TOKEN_FIELDS},
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The sign before the name of a value to fill in. Twice, it means the sign itself.
const SIGN: char = '$';
/// First in a list whose second item is repeated for each recording.
const EACH_KEY: &str = "$each";
/// Names of values of the response as a whole.
const OF_ANSWER: [&str; 3] = ["status", "complete", "count"];
/// Names of values of each recording.
const OF_FILE: [&str; 10] = [
    "filename",
    "url",
    "size",
    "modified",
    "content_type",
    "expires",
    "duration",
    "empty",
    "growing",
    "original",
];

/// Why a dialect file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// The file cannot be read.
    #[error("cannot read the dialect file {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is not TOML, or it has unknown keys.
    #[error("dialect file: not valid: {0}")]
    Malformed(String),
    /// A field of a request is mapped to an unknown field.
    #[error("dialect file: {0:?} maps to unknown field {1:?}")]
    Meaning(String, String),
    /// The response uses an unknown value.
    #[error("dialect file: [response] has the unknown value {0:?}")]
    Unknown(String),
    /// The token has more names, or longer ones, than the relay accepts.
    #[error("dialect file: the token has too many names, or too long ones")]
    TokenNames,
    /// The response contains an address of its own.
    #[error("dialect file: [response] has the address {0:?}")]
    Address(String),
    /// A list that is repeated does not have exactly one item to repeat.
    #[error("dialect file: {EACH_KEY:?} must be the first of two items of a list")]
    Each,
}

impl Advice for DialectError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unreadable(..) | Self::Malformed(_) => None,
            Self::Meaning(..) => Some(format!("known fields are {}", meanings()).into()),
            Self::Unknown(_) => {
                Some(format!("known values are {}, and $$ for a dollar sign", filled()).into())
            }
            Self::TokenNames => Some(
                format!(
                    "at most {MAX_TOKEN_FIELDS} names are possible, with the built-in ones, each of at most \
                     {MAX_TOKEN_FIELD_LEN} bytes"
                )
                .into(),
            ),
            Self::Address(_) => Some("remove it, because a relay passes on only links to recordings".into()),
            Self::Each => Some("write [\"$each\", …]".into()),
        }
    }
}

/// How searches are read and how responses are shaped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dialect {
    /// Field names in addition to the built-in ones; they are tried first.
    pub names: Vec<(String, Field)>,
    response: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    request: std::collections::BTreeMap<String, String>,
    response: Option<Value>,
}

impl Dialect {
    /// Reads a dialect file.
    ///
    /// # Errors
    /// [`DialectError`].
    pub fn read(path: &Path) -> Result<Self, DialectError> {
        let text =
            fs::read_to_string(path).map_err(|error| DialectError::Unreadable(path.to_owned(), error))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, DialectError> {
        let Written { request, response } =
            toml::from_str(text).map_err(|error| DialectError::Malformed(error.message().to_owned()))?;
        let name = |(name, meaning): (String, String)| match field(&meaning) {
            Some(field) => Ok((name, field)),
            None => Err(DialectError::Meaning(name, meaning)),
        };
        let names: Vec<_> = request.into_iter().map(name).collect::<Result<_, _>>()?;
        let token_names = token_names(&names);
        if token_names.len() > MAX_TOKEN_FIELDS
            || token_names.iter().any(|name| name.len() > MAX_TOKEN_FIELD_LEN)
        {
            return Err(DialectError::TokenNames);
        }
        if let Some(response) = &response {
            check(response, false)?;
        }
        Ok(Self { names, response })
    }

    /// Converts a response to the configured shape.
    pub fn shape(&self, answer: Value) -> Value {
        match &self.response {
            Some(template) => Filling::of(&answer).fill(template, None),
            None => answer,
        }
    }
}

fn field(meaning: &str) -> Option<Field> {
    NAMES.iter().find(|(name, _)| *name == meaning).map(|(_, field)| *field)
}

fn meanings() -> String {
    let firsts = NAMES
        .iter()
        .enumerate()
        .filter(|(n, (_, field))| NAMES.iter().position(|(_, other)| other == field) == Some(*n));
    firsts.map(|(_, (name, _))| *name).collect::<Vec<_>>().join(", ")
}

fn filled() -> String {
    let signed =
        |names: &[&str]| names.iter().map(|name| format!("{SIGN}{name}")).collect::<Vec<_>>().join(" ");
    format!("{}, and within [\"$each\", …] {}", signed(&OF_ANSWER), signed(&OF_FILE))
}

/// The name of the value to fill in, if the text is such a placeholder.
fn wanted(text: &str) -> Option<&str> {
    text.strip_prefix(SIGN).filter(|rest| !rest.starts_with(SIGN))
}

fn is_each(items: &[Value]) -> bool {
    items.first().and_then(Value::as_str) == Some(EACH_KEY)
}

fn check(template: &Value, in_file: bool) -> Result<(), DialectError> {
    match template {
        Value::String(text) => {
            let known = |name: &str| OF_ANSWER.contains(&name) || (in_file && OF_FILE.contains(&name));
            match wanted(text) {
                Some(name) if !known(name) => Err(DialectError::Unknown(text.clone())),
                None if is_address(text) => Err(DialectError::Address(text.clone())),
                Some(_) | None => Ok(()),
            }
        }
        Value::Array(items) if is_each(items) => match items.as_slice() {
            [_, item] => check(item, true),
            _ => Err(DialectError::Each),
        },
        Value::Array(items) => items.iter().try_for_each(|item| check(item, in_file)),
        Value::Object(fields) => fields.values().try_for_each(|value| check(value, in_file)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Fills in a template from a response.
struct Filling<'a> {
    answer: &'a Value,
    files: &'a [Value],
}

impl<'a> Filling<'a> {
    fn of(answer: &'a Value) -> Self {
        Self { answer, files: answer.get("files").and_then(Value::as_array).map_or(&[], Vec::as_slice) }
    }

    fn fill(&self, template: &Value, file: Option<&Value>) -> Value {
        match template {
            Value::String(text) => self.text(text, file),
            Value::Array(items) if is_each(items) => {
                let item = items.get(1).unwrap_or(&Value::Null);
                self.files.iter().map(|file| self.fill(item, Some(file))).collect()
            }
            Value::Array(items) => items.iter().map(|item| self.fill(item, file)).collect(),
            Value::Object(fields) => {
                let filled = fields.iter().map(|(name, value)| (name.clone(), self.fill(value, file)));
                Value::Object(filled.collect::<Map<_, _>>())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
        }
    }

    fn text(&self, text: &str, file: Option<&Value>) -> Value {
        match wanted(text) {
            Some("count") => self.files.len().into(),
            Some(name) => file
                .and_then(|file| file.get(name))
                .or_else(|| self.answer.get(name))
                // A flag that is off is left out of the response, and so is an unknown duration.
                .cloned()
                .unwrap_or_else(|| {
                    if ["empty", "growing"].contains(&name) { false.into() } else { Value::Null }
                }),
            None => text.strip_prefix(SIGN).unwrap_or(text).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use audiovault_common::advice::with_advice;
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        let file = |name: &str| json!({ "filename": name, "url": format!("https://x/{name}"), "size": 4 });
        json!({ "status": "ok", "complete": true, "files": [file("a.wav"), file("b.wav")] })
    }

    #[test]
    fn names_have_the_meaning_that_the_operator_gives_them() {
        let dialect = Dialect::parse("[request]\nuid = 'callid'\nagent = 'queue'").unwrap();
        assert_eq!(dialect.names, [("agent".to_owned(), Field::Queue), ("uid".to_owned(), Field::CallId)]);
        assert_eq!(dialect.shape(answer()), answer(), "the answer stays");
    }

    #[test]
    fn answers_have_the_shape_that_the_operator_gives_them() {
        let text = "[response]\nfound = '$count'\nok = '$complete'\nprice = '$$5'\nv = 2\n\
                    audio = ['$each', { name = '$filename', href = '$url', sec = '$duration', mute = '$empty' }]";
        let shaped = Dialect::parse(text).unwrap().shape(answer());
        let file = |name: &str| json!({ "name": name, "href": format!("https://x/{name}"), "sec": null, "mute": false });
        let audio = [file("a.wav"), file("b.wav")];
        assert_eq!(shaped, json!({ "found": 2, "ok": true, "price": "$5", "v": 2, "audio": audio }));
        let list = Dialect::parse("response = ['$each', '$url']").unwrap().shape(answer());
        assert_eq!(list, json!(["https://x/a.wav", "https://x/b.wav"]));
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| with_advice(&Dialect::parse(text).unwrap_err());
        assert!(
            error("[request]\nuid = 'call'").contains("known fields are site, tenant, token, callid, start")
        );
        assert!(error("[response]\na = '$nothing'").contains("$status $complete $count"));
        assert!(error("[response]\na = '$url'").contains("within"), "a recording's own, outside of any");
        assert!(error("[response]\na = ['$each']").contains("two items"));
        assert!(error("[response]\na = 'https://x.example'").contains("remove it"));
        assert!(error("[answer]\na = 1").contains("unknown field"));
        let names = |n: usize| (0..n).map(|n| format!("key{n} = 'token'\n")).collect::<String>();
        assert!(Dialect::parse(&format!("[request]\n{}", names(12))).is_ok());
        assert!(error(&format!("[request]\n{}", names(13))).contains("too many names"));
        assert!(error(&format!("[request]\n{} = 'token'", "k".repeat(65))).contains("too long"));
        assert!(error("= 1").contains("not valid"));
    }
}
