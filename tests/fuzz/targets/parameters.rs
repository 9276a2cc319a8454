//! The parameters of a search come from any client of the relay: limits hold, logs show no value, and what was read
//! is the same when it is sent again.

#![no_main]

use arbitrary::Arbitrary;
use audiovault_protocol::http::parameters::{Field, MAX_FIELDS, MAX_VALUE_LEN, Parameters};
use libfuzzer_sys::fuzz_target;
use url::form_urlencoded::Serializer;

#[derive(Debug, Arbitrary)]
struct Request<'a> {
    query: Option<&'a str>,
    content_type: Option<ContentType<'a>>,
    body: &'a [u8],
}

#[derive(Debug, Arbitrary)]
enum ContentType<'a> {
    Form,
    Json,
    Other(&'a str),
}

const FIELDS: [(Field, &str); 9] = [
    (Field::Site, "site"),
    (Field::Tenant, "tenant"),
    (Field::Token, "token"),
    (Field::CallId, "callid"),
    (Field::Start, "start"),
    (Field::Agent, "agent"),
    (Field::Queue, "queue"),
    (Field::Server, "server"),
    (Field::User, "user"),
];

fuzz_target!(|request: Request| {
    let content_type = request.content_type.map(|kind| match kind {
        ContentType::Form => "application/x-www-form-urlencoded",
        ContentType::Json => "application/json",
        ContentType::Other(other) => other,
    });
    let Ok(read) = Parameters::read(request.query, content_type, request.body) else { return };
    assert!(read.unknown().len() <= MAX_FIELDS);
    assert!(read.unknown().iter().all(|name| name.len() <= MAX_VALUE_LEN));
    let mut form = Serializer::new(String::new());
    let mut without_values = Serializer::new(String::new());
    for (field, name) in FIELDS {
        let Some(value) = read.value(field) else { continue };
        assert!(!value.is_empty() && value.len() <= MAX_VALUE_LEN && value.trim() == value);
        form.append_pair(name, value);
        without_values.append_pair(name, "x");
    }
    // The debug output depends only on which fields there are, not on their values.
    let others = Parameters::read(Some(&without_values.finish()), None, b"").expect("the same fields");
    assert_eq!(format!("{read:?}"), format!("{others:?}"), "a value is shown");
    let form = form.finish();
    let again = Parameters::read(Some(&form), None, b"").expect("what was read before");
    let in_body = Parameters::read(None, Some("application/x-www-form-urlencoded"), form.as_bytes());
    let in_body = in_body.expect("what was read before");
    for (field, _) in FIELDS {
        assert_eq!(again.value(field), read.value(field));
        assert_eq!(in_body.value(field), read.value(field));
    }
});
