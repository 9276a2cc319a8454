//! Writes errors with their causes, in one line.

use std::{error::Error, iter::successors};

/// The error and its causes in one line, separated by colons, the innermost cause last.
///
/// A text that ends with the text of the next cause, as that of many database errors, is followed by the cause after
/// that.
pub fn in_one_line<E: Error + ?Sized>(error: &E) -> String {
    append(words(error), sources(error))
}

/// The causes of the error without the error itself, written like [`in_one_line`]. `None` if it has no cause.
pub fn causes_in_one_line<E: Error + ?Sized>(error: &E) -> Option<String> {
    let mut sources = sources(error);
    let first = sources.next()?;
    Some(append(words(first), sources))
}

/// The causes of the error, the innermost one last.
pub fn sources<E: Error + ?Sized>(error: &E) -> impl Iterator<Item = &(dyn Error + 'static)> {
    successors(error.source(), |source| (*source).source())
}

fn append<'a>(mut line: String, causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    for cause in causes {
        let cause = words(cause);
        if !line.ends_with(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        }
    }
    line
}

/// The text of the error with single spaces instead of line ends and of several spaces.
fn words<E: Error + ?Sized>(error: &E) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("the database failed: {0}")]
    struct Middle(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("no such table\n  LINE 1")]
    struct Inner;

    #[test]
    fn an_error_and_its_causes_fit_into_one_line_without_repetition() {
        let causes = "the database failed: no such table LINE 1";
        assert_eq!(in_one_line(&Outer(Middle(Inner))), format!("cannot start: {causes}"));
        assert_eq!(causes_in_one_line(&Outer(Middle(Inner))).as_deref(), Some(causes));
        assert_eq!(in_one_line(&Inner), "no such table LINE 1");
        assert_eq!(causes_in_one_line(&Inner), None);
        assert_eq!(sources(&Outer(Middle(Inner))).count(), 2);
    }
}
