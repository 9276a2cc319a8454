//! Conditional requests for one representation (RFC 9110, section 13). Pure.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, header};

/// The validators of the representation as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// Strong entity tag with its quotes. `None` while the file may still change within one tick of its clock.
    pub etag: Option<String>,
    /// Modification time in whole seconds. `None` under the same condition, which makes it a strong validator
    /// (section 8.8.2.2).
    pub modified: Option<SystemTime>,
}

/// The result of evaluating the preconditions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Respond as if there were no preconditions; `range` says whether a `Range` header may be honoured.
    Proceed {
        /// True without an `If-Range`, or with one that holds.
        range: bool,
    },
    /// Respond with 304 (Not Modified).
    NotModified,
    /// Respond with 412 (Precondition Failed).
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of section 13.2.2.
pub fn evaluate(headers: &HeaderMap, current: &Validators) -> Verdict {
    if let Some(tags) = text(headers, &header::IF_MATCH) {
        if !matches_any(&tags, |tag| tag == Tag::Any || current.is_strongly(tag)) {
            return Verdict::Failed;
        }
    } else if let Some(since) = date(headers, &header::IF_UNMODIFIED_SINCE)
        && current.modified.is_none_or(|modified| modified > since)
    {
        return Verdict::Failed;
    }
    if let Some(tags) = text(headers, &header::IF_NONE_MATCH) {
        if matches_any(&tags, |tag| tag == Tag::Any || current.is_weakly(tag)) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = date(headers, &header::IF_MODIFIED_SINCE)
        && current.modified.is_some_and(|modified| modified <= since)
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed { range: if_range_holds(headers, current) }
}

fn if_range_holds(headers: &HeaderMap, current: &Validators) -> bool {
    let Some(value) = text(headers, &header::IF_RANGE) else { return true };
    let value = value.trim();
    if value.starts_with('"') || value.starts_with("W/") {
        return parse_tags(value).first().is_some_and(|tag| current.is_strongly(*tag));
    }
    let date = httpdate::parse_http_date(value).ok();
    date.is_some() && date == current.modified
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag<'a> {
    Any,
    /// A strong tag, with its quotes.
    Strong(&'a str),
    /// A weak tag: the quoted part alone.
    Weak(&'a str),
}

impl Validators {
    fn is_strongly(&self, tag: Tag<'_>) -> bool {
        matches!(tag, Tag::Strong(tag) if self.etag.as_deref() == Some(tag))
    }

    fn is_weakly(&self, tag: Tag<'_>) -> bool {
        matches!(tag, Tag::Strong(tag) | Tag::Weak(tag) if self.etag.as_deref() == Some(tag))
    }
}

fn matches_any(list: &str, test: impl Fn(Tag<'_>) -> bool) -> bool {
    parse_tags(list).into_iter().any(test)
}

/// Parses a list of entity tags. Stops at the first item that is not an entity tag.
fn parse_tags(list: &str) -> Vec<Tag<'_>> {
    let separators = [',', ' ', '\t'];
    let mut rest = list.trim_matches(separators);
    if rest == "*" {
        return vec![Tag::Any];
    }
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let weak = rest.strip_prefix("W/");
        let quoted = weak.unwrap_or(rest);
        let Some(end) = quoted.strip_prefix('"').and_then(|inner| inner.find('"')) else { break };
        let (tag, after) = quoted.split_at(end + 2);
        tags.push(if weak.is_some() { Tag::Weak(tag) } else { Tag::Strong(tag) });
        rest = after.trim_start_matches(separators);
    }
    tags
}

/// All lines of a header as one list (section 5.3).
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("")).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    // An invalid date is ignored (sections 13.1.3 and 13.1.4).
    httpdate::parse_http_date(text(headers, name)?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TAG: &str = "\"2c-1a\"";
    const BEFORE: &str = "Tue, 26 Mar 2024 09:15:01 GMT";
    const THEN: &str = "Tue, 26 Mar 2024 09:15:02 GMT";
    const AFTER: &str = "Tue, 26 Mar 2024 09:15:03 GMT";
    const WHOLE: Verdict = Verdict::Proceed { range: false };
    const RANGE: Verdict = Verdict::Proceed { range: true };

    fn settled() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_711_444_502);
        Validators { etag: Some(TAG.to_owned()), modified: Some(modified) }
    }

    fn judged(headers: &[(&str, &str)], current: &Validators) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        evaluate(&map, current)
    }

    #[test]
    fn each_condition_is_judged_as_the_rfc_says() {
        for (name, value, expected) in [
            ("if-match", TAG, RANGE),
            ("if-match", "*", RANGE),
            ("if-match", "\"x\", \"2c-1a\"", RANGE),
            ("if-match", "\"x\"", Verdict::Failed),
            ("if-match", "W/\"2c-1a\"", Verdict::Failed),
            ("if-match", "nonsense", Verdict::Failed),
            ("if-unmodified-since", THEN, RANGE),
            ("if-unmodified-since", BEFORE, Verdict::Failed),
            ("if-unmodified-since", "yesterday", RANGE),
            ("if-none-match", TAG, Verdict::NotModified),
            ("if-none-match", "W/\"2c-1a\"", Verdict::NotModified),
            ("if-none-match", "*", Verdict::NotModified),
            ("if-none-match", "\"x\",W/\"y\" , \"2c-1a\"", Verdict::NotModified),
            ("if-none-match", "\"x\"", RANGE),
            ("if-modified-since", THEN, Verdict::NotModified),
            ("if-modified-since", AFTER, Verdict::NotModified),
            ("if-modified-since", BEFORE, RANGE),
            ("if-modified-since", "yesterday", RANGE),
            ("if-range", TAG, RANGE),
            ("if-range", "\"x\"", WHOLE),
            ("if-range", "W/\"2c-1a\"", WHOLE),
            ("if-range", THEN, RANGE),
            ("if-range", BEFORE, WHOLE),
            ("if-range", AFTER, WHOLE),
            ("if-range", "nonsense", WHOLE),
        ] {
            assert_eq!(judged(&[(name, value)], &settled()), expected, "{name}: {value}");
        }
    }

    #[test]
    fn tags_come_before_dates_and_the_first_failure_wins() {
        let both = [("if-match", TAG), ("if-unmodified-since", BEFORE)];
        assert_eq!(judged(&both, &settled()), RANGE);
        let both = [("if-none-match", "\"x\""), ("if-modified-since", AFTER)];
        assert_eq!(judged(&both, &settled()), RANGE);
        let both = [("if-match", "\"x\""), ("if-none-match", TAG)];
        assert_eq!(judged(&both, &settled()), Verdict::Failed);
        let lines = [("if-none-match", "\"x\""), ("if-none-match", TAG)];
        assert_eq!(judged(&lines, &settled()), Verdict::NotModified, "several lines are one list");
    }

    #[test]
    fn a_young_file_never_seems_unchanged() {
        let young = Validators { etag: None, modified: None };
        assert_eq!(judged(&[("if-none-match", TAG)], &young), RANGE);
        assert_eq!(judged(&[("if-none-match", "*")], &young), Verdict::NotModified);
        assert_eq!(judged(&[("if-modified-since", AFTER)], &young), RANGE);
        assert_eq!(judged(&[("if-match", TAG)], &young), Verdict::Failed);
        assert_eq!(judged(&[("if-match", "*")], &young), RANGE);
        assert_eq!(judged(&[("if-unmodified-since", AFTER)], &young), Verdict::Failed);
        assert_eq!(judged(&[("if-range", THEN)], &young), WHOLE);
        assert_eq!(judged(&[("if-range", TAG)], &young), WHOLE);
    }
}
