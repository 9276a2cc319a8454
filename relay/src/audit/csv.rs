//! Rows as CSV (RFC 4180), for spreadsheets: those of the audit and of the operators' events alike.

use std::io;

use csv::Writer;

/// A row of an export with so many columns.
pub trait CsvRow<const COLUMNS: usize> {
    /// The names of the columns, the same words as in the API.
    const HEADER: [&'static str; COLUMNS];

    /// The fields. What strangers may have written went through [`harmless`].
    fn fields(&self) -> [String; COLUMNS];
}

/// The head of an export.
///
/// # Errors
/// What the writer says.
pub fn write_header<R: CsvRow<COLUMNS>, const COLUMNS: usize>(out: impl io::Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(R::HEADER)?;
    writer.flush()
}

/// Rows, one line each.
///
/// # Errors
/// What the writer says.
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

/// Keeps a spreadsheet from taking a stranger's words for a formula.
pub fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t']) { format!("'{text}") } else { text.to_owned() }
}

/// As [`harmless`]; nothing is an empty field.
pub fn harmless_or_empty(text: Option<&str>) -> String {
    text.map(harmless).unwrap_or_default()
}
