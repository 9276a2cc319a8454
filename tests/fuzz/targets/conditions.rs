//! Preconditions of any client with a link: no verdict without a header that asks for it.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use arbitrary::Arbitrary;
use audiovault_agent_core::conditions::{Validators, Verdict, evaluate};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Request<'a> {
    headers: Vec<(Name, &'a [u8])>,
    tag: Option<u16>,
    /// Seconds since the epoch.
    modified: Option<u32>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Name {
    IfMatch,
    IfNoneMatch,
    IfModifiedSince,
    IfUnmodifiedSince,
    IfRange,
}

impl From<Name> for HeaderName {
    fn from(name: Name) -> Self {
        match name {
            Name::IfMatch => header::IF_MATCH,
            Name::IfNoneMatch => header::IF_NONE_MATCH,
            Name::IfModifiedSince => header::IF_MODIFIED_SINCE,
            Name::IfUnmodifiedSince => header::IF_UNMODIFIED_SINCE,
            Name::IfRange => header::IF_RANGE,
        }
    }
}

fuzz_target!(|request: Request| {
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from(name), value);
        }
    }
    let current = Validators {
        etag: request.tag.map(|tag| format!("\"{tag:x}\"")),
        modified: request.modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds.into())),
    };
    let given = |names: [HeaderName; 2]| names.iter().any(|name| headers.contains_key(name));
    match evaluate(&headers, &current) {
        Verdict::Failed => assert!(given([header::IF_MATCH, header::IF_UNMODIFIED_SINCE])),
        Verdict::NotModified => assert!(given([header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE])),
        Verdict::Proceed { range } => assert!(range || headers.contains_key(header::IF_RANGE)),
    }
    check_own_validators(&current);
});

/// A client that sends back the validators that it received has the current representation.
fn check_own_validators(current: &Validators) {
    let ask = |name, value: String| {
        let value = HeaderValue::from_str(&value).expect("our own validators are text");
        evaluate(&HeaderMap::from_iter([(name, value)]), current)
    };
    if let Some(tag) = current.etag.clone() {
        assert_eq!(ask(header::IF_NONE_MATCH, tag.clone()), Verdict::NotModified);
        assert_eq!(ask(header::IF_MATCH, tag.clone()), Verdict::Proceed { range: true });
        assert_eq!(ask(header::IF_RANGE, tag), Verdict::Proceed { range: true });
    }
    if let Some(modified) = current.modified {
        let date = httpdate::fmt_http_date(modified);
        assert_eq!(ask(header::IF_MODIFIED_SINCE, date.clone()), Verdict::NotModified);
        assert_eq!(ask(header::IF_UNMODIFIED_SINCE, date.clone()), Verdict::Proceed { range: true });
        assert_eq!(ask(header::IF_RANGE, date), Verdict::Proceed { range: true });
    }
}
