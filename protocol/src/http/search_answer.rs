//! Checks which content of an agent's search response the relay may pass on in its own name.
//!
//! The response can have any shape, because the agent's dialect file may define one. So every text in it is checked, at
//! any position: an address must be a link to a recording of the same site.

use std::borrow::Cow;

use serde_json::Value;

use crate::recording::media;

/// The longest search response in bytes: some 1,500 recordings of one call. A longer one is refused.
pub const MAX_SEARCH_ANSWER_LEN: usize = 1 << 20;

/// Schemes that a browser acts on even without `//` after them.
const ACTED_ON: [&str; 13] = [
    "about",
    "blob",
    "data",
    "file",
    "ftp",
    "http",
    "https",
    "javascript",
    "mailto",
    "tel",
    "vbscript",
    "ws",
    "wss",
];

/// An address in a response that is not a link to a recording of the site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the response has an address that is not a link of this site: {0:?}")]
pub struct ForeignAddress(pub String);

/// Makes a response safe to pass on. Names are made harmless: in every text, and, in a response that no dialect file
/// has shaped, also by the type of the recording (see [`media::safe_name`]). Returns true if anything was changed.
///
/// `base` is the base URL of the site, without a slash at the end.
///
/// # Errors
/// [`ForeignAddress`] for the first address that does not lead to a recording of the site; in a response that no
/// dialect file has shaped, also for a `url` that is not a link of the site.
pub fn make_own(answer: &mut Value, base: &str) -> Result<bool, ForeignAddress> {
    let mut changed = clean(answer, base)?;
    let files = answer.get_mut("files").and_then(Value::as_array_mut);
    for file in files.into_iter().flatten() {
        if let Some(url) = file.get("url").and_then(Value::as_str).filter(|url| !is_own(url, base)) {
            return Err(ForeignAddress(url.to_owned()));
        }
        let kind = file.get("content_type").and_then(Value::as_str).map(str::to_owned);
        let (Some(kind), Some(name)) = (kind, file.get_mut("filename")) else { continue };
        let Some(given) = name.as_str() else { continue };
        let safe = media::safe_name(given, &kind);
        if safe != given {
            *name = safe.into();
            changed = true;
        }
        if media::listed(&kind).is_none() {
            file["content_type"] = media::UNKNOWN.into();
            changed = true;
        }
    }
    Ok(changed)
}

/// True if a browser would follow this text: an absolute address, or one that begins with a slash.
pub fn is_address(text: &str) -> bool {
    // As a browser reads it: without surrounding blanks and control characters, and without line ends and tabs (WHATWG
    // URL, section 4.4).
    let text = text.trim_matches(|c: char| c.is_ascii_control() || c == ' ');
    let has_removed = text.bytes().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r'));
    let text =
        if has_removed { Cow::Owned(text.replace(['\t', '\n', '\r'], "")) } else { Cow::Borrowed(text) };
    if text.starts_with(['/', '\\']) {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    is_scheme && (rest.starts_with("//") || ACTED_ON.contains(&scheme.to_ascii_lowercase().as_str()))
}

fn clean(value: &mut Value, base: &str) -> Result<bool, ForeignAddress> {
    match value {
        Value::String(text) => {
            if is_address(text) && !is_own(text, base) {
                return Err(ForeignAddress(std::mem::take(text)));
            }
            let cleaned = media::cleaned(text);
            let changed = cleaned.is_some();
            if let Some(cleaned) = cleaned {
                *text = cleaned;
            }
            Ok(changed)
        }
        Value::Array(items) => clean_all(items.iter_mut(), base),
        Value::Object(fields) => clean_all(fields.values_mut(), base),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(false),
    }
}

fn clean_all<'a>(values: impl Iterator<Item = &'a mut Value>, base: &str) -> Result<bool, ForeignAddress> {
    let mut changed = false;
    for value in values {
        changed |= clean(value, base)?;
    }
    Ok(changed)
}

/// True for `<base>/recordings/<token>/<name>`, with nothing that a browser would read in another way. `base` is the
/// relay's own and a valid URL, and the rest has only characters that stand for themselves, so nothing is parsed.
fn is_own(url: &str, base: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.trim_matches('.').is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let link = url.strip_prefix(base).and_then(|rest| rest.strip_prefix("/recordings/"));
    link.and_then(|link| link.split_once('/')).is_some_and(|(token, name)| plain(token) && plain(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use url::Url;

    use super::*;

    const BASE: &str = "https://relay.example.com/acme";

    fn own() -> String {
        format!("{BASE}/recordings/AbC_-1/recording.wav")
    }

    #[test]
    fn an_honest_answer_stays_as_it_is() {
        let file = json!({ "filename": "año-1.wav", "url": own(), "content_type": "audio/wav", "size": 4, "duration": 1.5 });
        for answer in [
            json!({ "status": "ok", "complete": true, "files": [file] }),
            json!({ "found": 1, "audio": [{ "name": "rec:12.wav", "href": own() }], "at": "2024-03-26T10:00:00Z" }),
            json!([own()]),
        ] {
            let mut passed = answer.clone();
            assert_eq!(make_own(&mut passed, BASE), Ok(false));
            assert_eq!(passed, answer);
        }
    }

    #[test]
    fn no_address_leads_elsewhere() {
        for elsewhere in [
            "https://evil.example/x.wav",
            "https://relay.example.com/other/recordings/a/b.wav",
            "https://relay.example.com/acme/recordings/../../other/recordings/a/b.wav",
            "https://relay.example.com/acme/recordings/%2e%2e/b.wav",
            "https://relay.example.com/acme/recordings/a/..",
            "https://relay.example.com/acme/recordings/a/b.wav#c",
            "https://relay.example.com/acme.evil/recordings/a/b.wav",
            "//evil.example/x",
            "/other/recordings/a/b.wav",
            "\\\\evil.example\\x",
            " \u{1}java\tscript:alert(1)",
            "JavaScript:alert(1)",
            "http:evil.example",
            "data:text/html,x",
            "intent://evil.example#Intent;end",
        ] {
            for mut answer in [
                json!({ "files": [{ "url": elsewhere }] }),
                json!({ "a": { "b": [[1, null, elsewhere]] } }),
                json!(elsewhere),
            ] {
                assert!(make_own(&mut answer, BASE).is_err(), "{elsewhere}");
            }
        }
        let mut answer = json!({ "files": [{ "url": "recording.wav" }] });
        assert!(make_own(&mut answer, BASE).is_err(), "a link of the usual shape is a whole one");
    }

    #[test]
    fn names_are_made_harmless() {
        let mut answer = json!({
            "files": [{ "filename": "Setup.exe", "original": "a\nb", "url": own(), "content_type": "audio/x-msdownload" }]
        });
        assert_eq!(make_own(&mut answer, BASE), Ok(true));
        let file = &answer["files"][0];
        assert_eq!(file["filename"], "Setup.exe.bin");
        assert_eq!(file["content_type"], "application/octet-stream");
        assert_eq!(file["original"], "a_b");
    }

    proptest! {
        #[test]
        fn what_is_passed_on_resolves_to_the_site_or_to_no_place(text in "[a-zA-Z:/\\\\.@%2e \t]{0,24}") {
            let mut answer = Value::from(text.clone());
            if make_own(&mut answer, BASE).is_ok() {
                let page = Url::parse("https://queuemetrics.example/a/b").unwrap();
                if let Ok(url) = page.join(answer.as_str().unwrap()) {
                    let stays = url.origin() == page.origin();
                    prop_assert!(stays || !url.has_authority(), "{text:?} leads to {url}");
                }
            }
        }
    }
}
