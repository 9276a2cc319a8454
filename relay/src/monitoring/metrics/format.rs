//! The two text formats of metrics, and which client gets which.

use std::fmt::Write;

use http::{HeaderMap, header};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, for clients that ask for it by name.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4, for all other clients.
    Text,
}

/// How much a client wants each of the two formats, between 0 and 1.
#[derive(Debug, Default, Clone, Copy)]
struct Wish {
    open_metrics: f32,
    text: f32,
}

impl Format {
    /// The format that `Accept` (RFC 9110, section 12.5.1) asks for. OpenMetrics must be named: a client that accepts
    /// anything may know only the older format.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let mut wish = Wish::default();
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            wish.add(range);
        }
        if wish.open_metrics > 0.0 && wish.open_metrics >= wish.text { Self::OpenMetrics } else { Self::Text }
    }

    /// The media type of a response.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Wish {
    fn add(&mut self, range: &str) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut weight = 1.0;
        let mut version = None;
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                // A weight that cannot be read counts as 0.
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                self.open_metrics = self.open_metrics.max(weight);
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => self.text = self.text.max(weight),
            _ => {}
        }
    }
}

/// Converts OpenMetrics text to the older format. There, `_total` and `_info` belong to the name of the family,
/// information is a gauge, and units, exemplars and the end marker are left out.
pub(super) fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The suffix of the name depends on the type, which follows.
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            // Writing into memory does not fail.
            let _ = writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(text, "{}", without_exemplar(line));
        }
    }
    text
}

/// A sample without what follows ` # `. A label may contain the same characters, so only those outside of quotes
/// count.
fn without_exemplar(sample: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, letter) in sample.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted => return sample.get(..at).unwrap_or(sample).trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepted(values: &[&'static str]) -> Format {
        let value = |value: &&'static str| (header::ACCEPT, HeaderValue::from_static(value));
        Format::accepted(&values.iter().map(value).collect())
    }

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for open in [
            prometheus,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"",
            "text/plain;q=0.5, application/openmetrics-text; version=1.0.0",
        ] {
            assert_eq!(accepted(&[open]), Format::OpenMetrics, "{open}");
        }
        for text in [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=high",
            "application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.6",
        ] {
            assert_eq!(accepted(&[text]), Format::Text, "{text}");
        }
        assert_eq!(accepted(&[]), Format::Text);
        assert_eq!(accepted(&["text/plain;q=0.1", "application/openmetrics-text"]), Format::OpenMetrics);
    }

    #[test]
    fn the_older_format_names_families_as_their_samples() {
        let open_metrics = "\
            # HELP a_build What runs.\n# TYPE a_build info\na_build_info{version=\"1 # 2\"} 1\n\
            # HELP a_sent_bytes Sent.\n# TYPE a_sent_bytes counter\n# UNIT a_sent_bytes bytes\n\
            a_sent_bytes_total{to=\"\\\"#\"} 7 # {trace=\"x\"} 1.0\n\
            # HELP a_up Up.\n# TYPE a_up gauge\na_up 1.0\n# EOF\n";
        let text = "\
            # HELP a_build_info What runs.\n# TYPE a_build_info gauge\na_build_info{version=\"1 # 2\"} 1\n\
            # HELP a_sent_bytes_total Sent.\n# TYPE a_sent_bytes_total counter\n\
            a_sent_bytes_total{to=\"\\\"#\"} 7\n\
            # HELP a_up Up.\n# TYPE a_up gauge\na_up 1.0\n";
        assert_eq!(to_text(open_metrics), text);
    }
}
