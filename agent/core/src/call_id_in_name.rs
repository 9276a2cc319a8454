//! Finds the call id in a file name: the reverse of a search, used to find a sample recording.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::call_id::{CallId, CallIdRules};

/// How many parts of a name are considered, counted from the end, because PBXs write the id late. 16 parts make 136
/// texts to parse.
const MAX_PARTS: usize = 16;
/// A recording is written when its call is over. A time in an id that is further than this after the recording is a
/// telephone number.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

impl CallIdRules {
    /// Reads the call id out of a recording's file name. If several texts could be one, the order is: a time with a
    /// number after it that is not later than the recording; a UUID or Yeastar's form; the admin's own rule, with
    /// the longest text first.
    pub fn find_in(&self, name: &[u8], modified: SystemTime) -> Option<CallId> {
        let name = std::str::from_utf8(name).ok()?;
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let texts = texts(stem);
        let latest = modified.duration_since(UNIX_EPOCH).unwrap_or_default() + AHEAD;
        let usable = |id: &CallId| {
            let in_time = |epoch| u64::try_from(epoch).is_ok_and(|epoch| epoch <= latest.as_secs());
            id.server().is_none() && id.epoch().is_none_or(in_time)
        };
        let built_in = Self::default();
        let ids = || texts.iter().filter_map(|text| built_in.parse(text).ok()).filter(usable);
        let found = ids().find(|id| id.epoch().is_some()).or_else(|| ids().next());
        let own = || texts.iter().rev().find_map(|text| self.parse(text).ok().filter(usable));
        found.or_else(own).filter(|id| id.stands_in(name.as_bytes()))
    }
}

/// Every run of whole parts of a name. The shortest come first; of equally long ones, the last in the name.
fn texts(stem: &str) -> Vec<&str> {
    let mut edges = Vec::new();
    let mut inside = false;
    for (at, c) in stem.char_indices() {
        if c.is_ascii_alphanumeric() != inside {
            edges.push(at);
            inside = !inside;
        }
    }
    if inside {
        edges.push(stem.len());
    }
    let parts: Vec<(usize, usize)> = edges
        .chunks(2)
        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
        .rev()
        .take(MAX_PARTS)
        .collect();
    let runs = parts
        .iter()
        .enumerate()
        .flat_map(|(n, (_, end))| parts.iter().skip(n).filter_map(|(start, _)| stem.get(*start..*end)));
    let mut runs: Vec<&str> = runs.collect();
    runs.sort_by_key(|run| run.len());
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rules: &CallIdRules, name: &str) -> Option<String> {
        // 2024-03-27.
        let modified = UNIX_EPOCH + Duration::from_secs(1_711_500_000);
        rules.find_in(name.as_bytes(), modified).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn ids_are_read_out_of_the_names_of_every_known_pbx() {
        for (name, id) in [
            ("q-400-34911223344-20240326-101502-1711444502.17.wav", "1711444502.17"),
            ("1711444502.17.WAV", "1711444502.17"),
            ("mikopbx-1711444502.17_Ab3Xy.webm", "1711444502.17"),
            ("pbx1-1711444502.17-in.wav", "1711444502.17"),
            ("20240326101502-1711444502.17-100-200-Inbound.wav", "1711444502.17"),
            ("20240326101502-1711444502_17-100-200-Inbound.wav", "1711444502_17"),
            ("q_1711444502.17.mp3", "1711444502.17"),
            ("3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11.mp3", "3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11"),
            ("34911223344_3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11.wav", "3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11"),
            ("20220113-202201131409043E81A.wav", "202201131409043E81A"),
        ] {
            assert_eq!(found(&CallIdRules::default(), name).as_deref(), Some(id), "{name}");
        }
    }

    #[test]
    fn telephone_numbers_and_dates_are_no_ids() {
        for name in [
            "greeting.wav",
            "out-34911223344-100-20240326.wav",
            "34911223344_100.wav",
            "20240326-101502.wav",
            "",
            ".wav",
            "é.wav",
        ] {
            assert_eq!(found(&CallIdRules::default(), name), None, "{name}");
        }
        assert_eq!(CallIdRules::default().find_in(b"\xff1711444502.17.wav", UNIX_EPOCH), None);
    }

    #[test]
    fn the_operators_own_ids_are_read_too() {
        let rules = CallIdRules::with_custom("CALL[0-9]{6}").unwrap();
        assert_eq!(found(&rules, "rec_CALL000123_out.mp3").as_deref(), Some("CALL000123"));
        assert_eq!(found(&rules, "rec_1711444502.17.mp3").as_deref(), Some("1711444502.17"));
    }
}
