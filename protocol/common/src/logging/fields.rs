//! The fields of a line of text, as `tracing_subscriber` writes them: `name=value`, with texts in quotes.
//!
//! The library paints each name, also where nothing is coloured, and looks at each character of a text. What needs
//! neither is written as it is. All else is left to the library.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::{RecordFields, VisitOutput},
    fmt::{
        FormatFields,
        format::{DefaultVisitor, Writer},
    },
};

/// The form of fields in text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    /// Writes a field by the library's own visitor.
    fn by_library(&mut self, field: &Field, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        if self.result.is_ok() {
            let mut visitor = DefaultVisitor::new(self.writer.by_ref(), self.is_first);
            record(&mut visitor);
            self.result = visitor.finish();
            // It leaves those fields out.
            self.is_first &= field.name().starts_with("log.");
        }
    }

    /// True if the library would paint the field, or treat it in another way than by its name.
    fn is_special(&self, field: &Field) -> bool {
        let name = field.name();
        self.writer.has_ansi_escapes()
            || name == "message"
            || name.starts_with("log.")
            || name.starts_with("r#")
    }

    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            self.result = self.begin(field).and_then(|()| self.writer.write_fmt(value));
        }
    }

    fn begin(&mut self, field: &Field) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        self.writer.write_str(field.name())?;
        self.writer.write_char('=')
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if self.is_special(field) || !value.as_bytes().iter().all(is_plain) {
            self.by_library(field, |visitor| visitor.record_str(field, value));
        } else if self.result.is_ok() {
            let quoted = |writer: &mut Writer<'_>| {
                writer.write_char('"')?;
                writer.write_str(value)?;
                writer.write_char('"')
            };
            self.result = self.begin(field).and_then(|()| quoted(&mut self.writer));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.by_library(field, |visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.is_special(field) {
            self.by_library(field, |visitor| visitor.record_debug(field, value));
        } else {
            self.write(field, format_args!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;
    use tracing::field::Empty;
    use tracing_subscriber::{fmt, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer \u{1b}[31m \"quoted\"")]
    struct Outer(#[source] io::Error);

    /// The lines of all kinds of fields, by the library's form or by this one.
    fn lines(ours: bool, colours: bool) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = fmt::layer().without_time().with_ansi(colours).with_writer(move || writer.clone());
        let registry = tracing_subscriber::registry();
        let log = || {
            let span = tracing::info_span!("request", id = "r1", site = Empty, other = Empty);
            let _inside = span.enter();
            tracing::info!("before");
            span.record("site", "acme").record("other", "a \"b\"");
            let error = Outer(io::Error::other("inner\n\u{1b}[0m"));
            let error: &(dyn std::error::Error + 'static) = &error;
            let alone: &(dyn std::error::Error + 'static) = error.source().unwrap();
            tracing::warn!(error, alone, kind = "a.b", "with errors");
            tracing::info!(log.file = "f", first = 1, log.line = 2, yes = true, "left out");
            tracing::info!(r#type = "t", r#match = 7, raw = 1.5, big = u128::MAX, less = -3, "names");
            for text in [
                "",
                "plain ~",
                "'",
                "\"",
                "\\",
                "\t\r\n\0\u{7f}",
                "\u{1b}[31m",
                "é\u{9b}\u{301}日",
                "\u{200b}",
            ] {
                tracing::info!(text, shown = %text, debug = ?text, some = ?Some(text), "text");
                tracing::info!(text);
                tracing::info!("{text}");
            }
        };
        if ours {
            tracing::subscriber::with_default(registry.with(layer.fmt_fields(Fields)), log);
        } else {
            tracing::subscriber::with_default(registry.with(layer), log);
        }
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_those_of_the_library_with_and_without_colours() {
        for colours in [false, true] {
            let expected = lines(false, colours);
            assert!(expected.matches("text").count() > 20, "{expected}");
            assert_eq!(lines(true, colours), expected);
        }
    }
}
