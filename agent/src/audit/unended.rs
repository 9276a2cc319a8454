//! Finds deliveries that have a begin line in the audit log but no end.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use memchr::memmem;
use serde_json::{Map, Value};

use super::{
    aside,
    event::{Kind, Outcome, line},
};

/// Bytes of the audit log that are read at a start, the newest files first: 150,000 lines, read within a second. What
/// was still running at the end of a run began within them, except for downloads that took days.
const MAX_READ: u64 = 64 * 1024 * 1024;
/// The key that the two lines of a delivery share. Quotes in texts are escaped, so no text can contain this.
const KEY: &[u8] = b"\"delivery\":";
/// The text of the closing line. The line of an end can also be among those that were counted as lost.
const PROBLEM: &str = "no end is on record: the agent or its machine stopped first, or the line was lost";

/// The lines that close deliveries of earlier runs, in the order in which these began. Deliveries of `run` are left
/// alone. Blocks. A file that cannot be read ends the search.
pub(super) fn closing_lines(path: &Path, run: &str) -> Vec<String> {
    let mut deliveries = Deliveries::default();
    let mut left = MAX_READ;
    let older = aside::list(path).unwrap_or_default().into_iter().rev().map(|aside| aside.path);
    for path in std::iter::once(path.to_owned()).chain(older) {
        let Some(read) = File::open(path).ok().and_then(|file| deliveries.read(file.take(left), run)) else {
            break;
        };
        left = left.saturating_sub(read);
    }
    deliveries.closing_lines()
}

#[derive(Debug, Default)]
struct Deliveries {
    ended: HashSet<String>,
    begun: Vec<(String, Map<String, Value>)>,
}

impl Deliveries {
    /// Reads one file and returns its size in bytes. `None` if the limit is reached or the file cannot be read.
    fn read(&mut self, file: impl Read, run: &str) -> Option<u64> {
        let mut file = BufReader::new(file);
        let mut total = 0;
        let mut text = Vec::new();
        let mut begun = Vec::new();
        loop {
            text.clear();
            match file.read_until(b'\n', &mut text).ok()? {
                0 => break,
                len => total += len as u64,
            }
            if memmem::find(&text, KEY).is_none() {
                continue;
            }
            // Skip a line that a crash tore.
            let Ok(line) = serde_json::from_slice::<Map<String, Value>>(&text) else { continue };
            let Some(id) = line.get("delivery").and_then(Value::as_str).map(str::to_owned) else { continue };
            if line.get("kind").and_then(Value::as_str) == Some(Kind::Begun.word()) {
                if id.split('-').next() != Some(run) {
                    begun.push((id, line));
                }
            } else {
                self.ended.insert(id);
            }
        }
        begun.append(&mut self.begun);
        self.begun = begun;
        (total > 0).then_some(total)
    }

    fn closing_lines(self) -> Vec<String> {
        let open = self.begun.into_iter().filter(|(id, _)| !self.ended.contains(id));
        let close = |(_, mut event): (String, Map<String, Value>)| {
            event.insert("kind".to_owned(), Kind::Delivery.word().into());
            event.insert("outcome".to_owned(), Outcome::Cut.word().into());
            event.insert("problem".to_owned(), PROBLEM.into());
            line(&event)
        };
        open.map(close).collect()
    }
}
