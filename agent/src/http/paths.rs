//! Which route a request takes: `/search`, `/search/` or `/recordings/{token}/{name}`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::audit::event::Kind;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// A search.
    Search,
    /// A recording.
    Recording {
        /// The token of the link, decoded.
        token: Cow<'a, str>,
        /// The last part of the link, decoded.
        name: Cow<'a, str>,
    },
    /// The path of a recording, but not valid text. This agent makes only addresses that are.
    NotText,
}

impl<'a> Route<'a> {
    /// The route of a path, if there is one.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        if matches!(path, "/search" | "/search/") {
            return Some(Self::Search);
        }
        let (token, name) = path.strip_prefix("/recordings/")?.split_once('/')?;
        if token.is_empty() || name.is_empty() || name.contains('/') {
            return None;
        }
        let decoded = |segment| percent_decode_str(segment).decode_utf8().ok();
        match (decoded(token), decoded(name)) {
            (Some(token), Some(name)) => Some(Self::Recording { token, name }),
            _ => Some(Self::NotText),
        }
    }

    /// Which kind of event a request with this path is in the audit log, even if it has no route.
    pub(super) fn kind(path: &str) -> Option<Kind> {
        match path {
            "/search" | "/search/" => Some(Kind::Search),
            path if path.starts_with("/recordings/") => Some(Kind::Delivery),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_at_most_one_route() {
        let recording = |token: &'static str, name: &'static str| {
            Some(Route::Recording { token: token.into(), name: name.into() })
        };
        for (path, expected) in [
            ("/search", Some(Route::Search)),
            ("/search/", Some(Route::Search)),
            ("/search/more", None),
            ("/recordings/t/n.wav", recording("t", "n.wav")),
            ("/recordings/t%2Fu/a%C3%B1o.wav", recording("t/u", "año.wav")),
            ("/recordings/t/%ff", Some(Route::NotText)),
            ("/recordings/t", None),
            ("/recordings//n.wav", None),
            ("/recordings/t/", None),
            ("/recordings/t/n.wav/more", None),
            ("/", None),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }
}
