//! Sites as CSV (RFC 4180): reads the file of an import, and writes exports and the secrets of imported sites.

use std::io::{self, Read, Write};

use audiovault_protocol::identity::site::{Alias, SiteId};
use csv::{Reader, ReaderBuilder, StringRecord, Trim, Writer};

use crate::{
    sites::provisioning::{AddedSite, WantedSite},
    store::StoredSite,
};

/// How many sites a file may have. A larger file is a mistake, or should be several files.
const MAX_SITES: usize = 100_000;

/// Why a file of sites cannot be imported. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file is not CSV.
    #[error("this is not a CSV file with column names in its first line")]
    Csv(#[from] csv::Error),
    /// The column `site` is missing.
    #[error("the first line must name the column site, and can name note and aliases")]
    NoSiteColumn,
    /// A line has an error.
    #[error("line {line}: {reason}")]
    Line {
        /// The line number, counted from 1 with the line of column names.
        line: u64,
        /// The error in the line.
        reason: String,
    },
    /// The file has too many sites.
    #[error("a file may hold at most {MAX_SITES} sites")]
    TooMany,
}

/// Reads sites from the columns `site`, `note` and `aliases` (separated by spaces). Other columns are ignored, so that
/// an export can be imported.
pub(super) fn read(input: impl Read) -> Result<Vec<WantedSite>, TableError> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).from_reader(input);
    let columns = Columns::of(&mut reader)?;
    let mut sites = Vec::new();
    for record in reader.records() {
        let record = record?;
        sites.push(columns.site(&record)?);
        if sites.len() > MAX_SITES {
            return Err(TableError::TooMany);
        }
    }
    Ok(sites)
}

struct Columns {
    site: usize,
    note: Option<usize>,
    aliases: Option<usize>,
}

impl Columns {
    fn of(reader: &mut Reader<impl Read>) -> Result<Self, TableError> {
        let header = reader.headers()?;
        let find = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
        let site = find("site").ok_or(TableError::NoSiteColumn)?;
        Ok(Self { site, note: find("note"), aliases: find("aliases") })
    }

    fn site(&self, record: &StringRecord) -> Result<WantedSite, TableError> {
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |reason: &dyn ToString| TableError::Line { line, reason: reason.to_string() };
        let text = |column: Option<usize>| column.and_then(|column| record.get(column)).unwrap_or_default();
        let aliases = text(self.aliases).split_whitespace().map(Alias::parse);
        Ok(WantedSite {
            site: SiteId::parse(text(Some(self.site))).map_err(|error| wrong(&error))?,
            note: text(self.note).to_owned(),
            aliases: aliases.collect::<Result<_, _>>().map_err(|error| wrong(&error))?,
        })
    }
}

/// Writes all sites.
pub(super) fn write(sites: &[StoredSite], out: impl Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(["site", "note", "aliases", "created", "disabled_since"])?;
    for site in sites {
        let aliases: Vec<_> = site.aliases.iter().map(Alias::as_str).collect();
        writer.write_record([
            site.site.as_str(),
            &site.note,
            &aliases.join(" "),
            &site.created.to_string(),
            &site.disabled.map(|since| since.to_string()).unwrap_or_default(),
        ])?;
    }
    writer.flush()
}

/// Writes the secrets of sites.
pub(super) fn write_secrets(secrets: &[AddedSite], out: impl Write) -> io::Result<()> {
    let mut writer = Writer::from_writer(out);
    writer.write_record(["site", "site_key", "search_token", "search_url"])?;
    for one in secrets {
        writer.write_record([one.site.as_str(), &one.site_key, &one.search_token, &one.search_url])?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_may_stand_in_any_order_and_others_are_ignored() {
        let text =
            "Note, aliases ,site,created\n\"Acme, Madrid\",acme acme.example.com,acme-madrid,x\n,,beta\n";
        let sites = read(text.as_bytes()).unwrap();
        assert_eq!(sites[0].site.as_str(), "acme-madrid");
        assert_eq!((sites[0].note.as_str(), sites[0].aliases.len()), ("Acme, Madrid", 2));
        assert_eq!(sites[1].site.as_str(), "beta");
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        for (text, expected) in [
            ("name\nacme\n", "must name the column site"),
            ("site\nacme\nNot_A_Label\n", "line 3"),
            ("site,aliases\nacme,search\n", "line 2"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
