//! Splits an error into what is wrong and what to do. Errors of this program say both in one sentence, with a semicolon
//! in between.

use std::error::Error;

use audiovault_common::error_chain::sources;
use audiovault_protocol::frame::one_line;

/// An error in its two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorText {
    /// What is wrong, with its causes.
    pub(super) what: String,
    /// What to do, if the error or one of its causes says so.
    pub(super) advice: Option<String>,
}

impl ErrorText {
    /// Splits a sentence.
    pub(super) fn sentence(text: &str) -> Self {
        let text = one_line(text);
        match text.split_once("; ") {
            Some((what, advice)) => Self { what: what.to_owned(), advice: Some(advice.to_owned()) },
            None => Self { what: text, advice: None },
        }
    }

    /// Splits an error and its causes. The innermost advice is the most precise one, and the only one that is kept.
    pub(super) fn of(error: &dyn Error) -> Self {
        let mut to_text = Self::sentence(&error.to_string());
        for source in sources(error) {
            let inner = Self::sentence(&source.to_string());
            to_text.what = format!("{}: {}", to_text.what, inner.what);
            to_text.advice = inner.advice.or(to_text.advice);
        }
        to_text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no way out; ask somebody")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the door is locked{0}")]
    struct Inner(&'static str);

    #[test]
    fn what_is_wrong_and_what_to_do_are_taken_apart() {
        let to_text = |error: &dyn Error| {
            let to_text = ErrorText::of(error);
            (to_text.what, to_text.advice.unwrap_or_default())
        };
        let whole = "no way out: the door is locked".to_owned();
        assert_eq!(to_text(&Outer(Inner(""))), (whole.clone(), "ask somebody".to_owned()));
        assert_eq!(to_text(&Outer(Inner("; take the key"))), (whole, "take the key".to_owned()));
        assert_eq!(to_text(&Inner("")), ("the door is locked".to_owned(), String::new()));
    }
}
