//! Reads call detail records from Asterisk's `Master.csv` (`cdr_csv`): which leg belongs to which conversation.
//!
//! The file has no header. Its columns are those of `cdr_csv.c`: sixteen, then `uniqueid` with `loguniqueid`,
//! `userfield` with `loguserfield`, and `peeraccount`, `linkedid`, `sequence` with `newcdrcolumns`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use memchr::memmem::Finder;

use super::{CdrError, Leg, MOST_LEGS};

/// The index of the first column that may be missing.
const UNIQUEID: usize = 16;
/// The number of columns with all options, and without `userfield`.
const ALL: usize = 21;
const NO_USERFIELD: usize = 20;
/// The prefix with which FreePBX before version 2.11 wrote the file name of the recording into `userfield`.
const AUDIO: &str = "audio:";

struct Record {
    leg: Leg,
    linked: String,
}

/// All legs of the conversations that have a leg with one of these ids. Reads the file twice.
pub(super) fn legs(path: &Path, ids: &[String; 2]) -> Result<Vec<Leg>, CdrError> {
    let is_asked = |id: &str| ids.iter().any(|asked| asked == id);
    let mut conversations: Vec<String> = Vec::new();
    let mut without_links = false;
    let wanted: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    each(path, &wanted, |record| match record {
        Some(record) if is_asked(&record.leg.id) || is_asked(&record.linked) => {
            if !conversations.contains(&record.linked) {
                conversations.push(record.linked);
            }
            conversations.len() < MOST_LEGS
        }
        Some(_) => true,
        None => {
            without_links = true;
            true
        }
    })?;
    if conversations.is_empty() {
        return if without_links { Err(CdrError::NoLinks(path.to_owned())) } else { Ok(Vec::new()) };
    }
    let mut legs = Vec::new();
    let wanted: Vec<&[u8]> = conversations.iter().map(String::as_bytes).collect();
    each(path, &wanted, |record| {
        if let Some(record) = record.filter(|record| conversations.contains(&record.linked)) {
            legs.push(record.leg);
        }
        legs.len() < MOST_LEGS
    })?;
    Ok(legs)
}

/// Calls `each` for every record that contains one of these texts, until it returns false.
fn each(path: &Path, texts: &[&[u8]], mut each: impl FnMut(Option<Record>) -> bool) -> Result<(), CdrError> {
    let failed = |error| CdrError::File(path.to_owned(), error);
    let finders: Vec<Finder<'_>> = texts.iter().map(Finder::new).collect();
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    while read_line(&mut file, &mut line).map_err(failed)? {
        if finders.iter().any(|finder| finder.find(&line).is_some())
            && let Some(record) = parse(&line)
            && !each(record)
        {
            return Ok(());
        }
    }
    Ok(())
}

fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(file.read_until(b'\n', line)? > 0)
}

/// Parses a record: `Some(None)` if it does not name its conversation, and `None` if the line is not a record.
fn parse(line: &[u8]) -> Option<Option<Record>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line);
    let mut record = csv::ByteRecord::new();
    if !reader.read_byte_record(&mut record).ok()? || record.len() <= UNIQUEID {
        return None;
    }
    let text = |column: usize| {
        record.get(column).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    let (userfield, linked) = match record.len() {
        ALL => (text(UNIQUEID + 1), text(UNIQUEID + 3)),
        NO_USERFIELD => (String::new(), text(UNIQUEID + 2)),
        _ => return Some(None),
    };
    let recording = userfield.strip_prefix(AUDIO).unwrap_or_default().to_owned();
    Some(Some(Record { leg: Leg { id: text(UNIQUEID), recording }, linked }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn row(id: &str, more: &str) -> String {
        let first = r#""","34911223344","400","from-trunk","""Maria, S."" <34911223344>","SIP/trunk-1","SIP/101-2","Queue","400,t","#;
        let times = r#""2024-03-26 10:15:02","2024-03-26 10:15:05","2024-03-26 10:16:02",60,57,"ANSWERED","DOCUMENTATION""#;
        format!("{first}{times},\"{id}\"{more}\n")
    }

    fn found(text: &str, id: &str) -> Result<Vec<Leg>, CdrError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Master.csv");
        fs::write(&path, text).unwrap();
        legs(&path, &[id.to_owned(), id.to_owned()])
    }

    fn leg(id: &str, recording: &str) -> Leg {
        Leg { id: id.to_owned(), recording: recording.to_owned() }
    }

    #[test]
    fn all_legs_of_a_conversation_are_found_from_any_of_them() {
        let text = [
            row("1711444502.17", r#","audio:q-400.wav","","1711444502.17","1""#),
            row("1711444503.18", r#","","","1711444502.17","2""#),
            row("1711444503.180", r#","","","1711444503.180","3""#),
            row("1711444600.19", r#","","","1711444502.17","4""#),
        ];
        let whole = [leg("1711444502.17", "q-400.wav"), leg("1711444503.18", ""), leg("1711444600.19", "")];
        for id in ["1711444502.17", "1711444503.18", "1711444600.19"] {
            assert_eq!(found(&text.concat(), id).unwrap(), whole, "{id}");
        }
        assert_eq!(found(&text.concat(), "1711444503.180").unwrap().len(), 1);
        assert!(found(&text.concat(), "1711444999.1").unwrap().is_empty());
    }

    #[test]
    fn a_file_without_userfield_is_read_and_one_without_links_is_named() {
        let text = row("1711444502.17", r#","","1711444502.17","1""#);
        assert_eq!(found(&text, "1711444502.17").unwrap(), [leg("1711444502.17", "")]);
        let old = row("1711444502.17", "");
        let error = found(&old, "1711444502.17").unwrap_err().to_string();
        assert!(error.contains("newcdrcolumns=yes"), "{error}");
        assert!(found("1711444502.17 is nonsense\n\"", "1711444502.17").unwrap().is_empty());
        let gone = legs(Path::new("/nowhere"), &[String::new(), String::new()]).unwrap_err();
        assert!(gone.to_string().contains("/nowhere"));
    }
}
