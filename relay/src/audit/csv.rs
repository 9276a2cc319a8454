//! Rows as CSV (RFC 4180) for spreadsheets, used for the audit log and for the operators' events.

use std::io;

use csv::Writer;

/// A row of an export that has `COLUMNS` columns.
pub trait CsvRow<const COLUMNS: usize> {
    /// The names of the columns, the same as in the API.
    const HEADER: [&'static str; COLUMNS];

    /// The fields. Texts that may come from an unauthenticated client have passed [`harmless`].
    fn fields(&self) -> [String; COLUMNS];
}

/// Writes the header line of an export.
///
/// # Errors
/// The errors of the writer.
pub fn write_header<R: CsvRow<COLUMNS>, const COLUMNS: usize>(out: impl io::Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(R::HEADER)?;
    writer.flush()
}

/// Writes rows, one line each.
///
/// # Errors
/// The errors of the writer.
pub fn write_rows<R: CsvRow<COLUMNS>, const COLUMNS: usize>(
    out: impl io::Write,
    rows: &[R],
) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    for row in rows {
        writer.write_record(row.fields())?;
    }
    writer.flush()
}

/// Makes sure that a spreadsheet does not read a text from an unauthenticated client as a formula.
pub fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() }
}

/// As [`harmless`]; `None` becomes an empty field.
pub fn harmless_or_empty(text: Option<&str>) -> String {
    text.map(harmless).unwrap_or_default()
}
