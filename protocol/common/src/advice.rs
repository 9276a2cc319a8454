//! What to do about an error or a warning, apart from what is wrong.

use std::{borrow::Cow, error::Error, fmt, io};

use crate::error_chain::in_one_line;

/// An error that may know what to do about it. Its text says only what is wrong.
pub trait Advice: Error {
    /// What to do about the error, if the error or one of its causes knows. The innermost advice is the most precise
    /// one and wins.
    fn advice(&self) -> Option<Cow<'_, str>>;
}

/// The error and its causes in one line, and then the advice, after a semicolon.
pub fn with_advice<E: Advice + ?Sized>(error: &E) -> String {
    followed_by(in_one_line(error), error.advice())
}

/// The error without its causes, and then the advice, after a semicolon: for places that show the causes elsewhere, or
/// not at all.
pub fn without_causes<E: Advice + ?Sized>(error: &E) -> String {
    followed_by(error.to_string(), error.advice())
}

fn followed_by(problem: String, advice: Option<Cow<'_, str>>) -> String {
    match advice {
        Some(advice) => format!("{problem}; {advice}"),
        None => problem,
    }
}

/// What the person who runs the program should know although it is no error. Shown as the problem, and then the advice
/// after a semicolon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is surprising.
    pub problem: String,
    /// What to do about it, if anything.
    pub advice: Option<String>,
}

impl Warning {
    /// A warning with advice.
    pub fn new(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { problem: problem.into(), advice: Some(advice.into()) }
    }

    /// A warning without advice.
    pub fn only(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), advice: None }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl Advice for io::Error {
    fn advice(&self) -> Option<Cow<'_, str>> {
        None
    }
}

impl Advice for serde_json::Error {
    fn advice(&self) -> Option<Cow<'_, str>> {
        None
    }
}

impl Advice for tokio::task::JoinError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no way out")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the door is locked; it always is")]
    struct Inner(Option<&'static str>);

    impl Advice for Outer {
        fn advice(&self) -> Option<Cow<'_, str>> {
            self.0.advice().or(Some("ask somebody".into()))
        }
    }

    impl Advice for Inner {
        fn advice(&self) -> Option<Cow<'_, str>> {
            self.0.map(Cow::from)
        }
    }

    #[test]
    fn the_advice_follows_the_causes_and_the_innermost_one_wins() {
        let line = |error: &dyn Advice| with_advice(error);
        let locked = "the door is locked; it always is";
        assert_eq!(line(&Outer(Inner(None))), format!("no way out: {locked}; ask somebody"));
        assert_eq!(line(&Outer(Inner(Some("take the key")))), format!("no way out: {locked}; take the key"));
        assert_eq!(line(&Inner(None)), locked);
        assert_eq!(without_causes(&Outer(Inner(Some("take the key")))), "no way out; take the key");
        assert_eq!(without_causes(&Inner(None)), locked);
    }

    #[test]
    fn a_warning_is_shown_with_its_advice() {
        assert_eq!(Warning::new("the door is open", "close it").to_string(), "the door is open; close it");
        assert_eq!(Warning::only("the door is open").to_string(), "the door is open");
    }
}
