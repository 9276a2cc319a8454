use std::{collections::BTreeMap, fs, path::Path};

use regex::Regex;

use super::{
    Language::{English, Spanish},
    *,
};

/// Every key of a file with the arguments of its text.
fn keys(text: &str) -> BTreeMap<String, Vec<String>> {
    let argument = Regex::new(r"\{ *\$([a-z-]+)").unwrap();
    let mut keys = BTreeMap::new();
    let mut key = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, _)) = line.split_once(" =").filter(|_| !line.starts_with(' ')) {
            key = name.to_owned();
            assert!(keys.insert(key.clone(), Vec::new()).is_none(), "{key} stands there twice");
        }
        let arguments: &mut Vec<String> = keys.entry(key.clone()).or_default();
        arguments.extend(argument.captures_iter(line).map(|found| found[1].to_owned()));
        arguments.sort();
        arguments.dedup();
    }
    keys.remove("");
    keys
}

fn files(dir: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, texts);
        } else {
            texts.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

const ENGLISH_TEXT: &str = include_str!("../../../../locales/en.ftl");
const SPANISH_TEXT: &str = include_str!("../../../../locales/es.ftl");

#[test]
fn both_languages_have_the_same_texts_with_the_same_arguments() {
    for text in [ENGLISH_TEXT, SPANISH_TEXT] {
        assert!(FluentResource::try_new(text.to_owned()).is_ok());
    }
    assert_eq!(keys(ENGLISH_TEXT), keys(SPANISH_TEXT));
}

#[test]
fn every_text_that_is_asked_for_exists_and_gets_its_arguments() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    files(&root.join("templates"), &mut texts);
    files(&root.join("src/admin/pages"), &mut texts);
    let known = keys(ENGLISH_TEXT);
    let plain = Regex::new(r#"shell\.t\("([^"]+)"\)"#).unwrap();
    let one = Regex::new(r#"shell\.t1\("([^"]+)", "([^"]+)""#).unwrap();
    let two = Regex::new(r#"shell\.t2\("([^"]+)", \("([^"]+)", [^)]*\), \("([^"]+)""#).unwrap();
    let chosen = Regex::new(r#""((?:problem|login|error|state|theme)-[a-z_-]+)""#).unwrap();
    let done = Regex::new(r#"done\("[^"]*", "([a-z-]+)"\)|\?done=([a-z-]+)"#).unwrap();
    let mut seen = 0;
    for (file, text) in &texts {
        let uses = plain.captures_iter(text).map(|found| (found[1].to_owned(), vec![]));
        let uses =
            uses.chain(one.captures_iter(text).map(|found| (found[1].to_owned(), vec![found[2].to_owned()])));
        let uses = uses.chain(two.captures_iter(text).map(|found| {
            let mut arguments = vec![found[2].to_owned(), found[3].to_owned()];
            arguments.sort();
            (found[1].to_owned(), arguments)
        }));
        for (key, arguments) in uses {
            assert_eq!(known.get(&key), Some(&arguments), "{key} in {file}");
            seen += 1;
        }
        // The keys that handlers choose are in the code as literals.
        for found in chosen.captures_iter(text) {
            assert!(known.contains_key(&found[1]), "{} in {file}", &found[1]);
        }
        for found in done.captures_iter(text) {
            let what = found.get(1).or(found.get(2)).unwrap().as_str();
            assert!(known.contains_key(&format!("done-{what}")), "done-{what} in {file}");
        }
    }
    assert!(seen > 50, "only {seen} texts were found: has the pattern changed?");
}

#[test]
fn every_action_of_an_operator_has_a_name() {
    let known = keys(ENGLISH_TEXT);
    for action in crate::model::operator_events::Action::ALL {
        assert!(known.contains_key(&action.text_key()), "{action}");
    }
}

#[test]
fn a_browser_gets_the_language_that_it_likes_best_of_ours() {
    for (accepted, expected) in [
        ("es-MX,es;q=0.9,en;q=0.8", Spanish),
        ("en-GB,en;q=0.9", English),
        ("it-IT,it;q=0.9,es;q=0.5", Spanish),
        ("fr,de", English),
        ("", English),
        (";;,*,\u{0}", English),
    ] {
        assert_eq!(Language::preferred(accepted), expected, "{accepted:?}");
    }
}

#[test]
fn arguments_come_into_the_text() {
    let text = Spanish.text("token-remove-named", &[("name", "ci")]);
    assert_eq!(text, "Eliminar el token ci");
    assert_eq!(English.text("no-such-key", &[]), "no-such-key");
}

#[test]
fn counts_are_written_as_numbers_and_names_as_they_are() {
    let count = |language: Language, count| language.text("board-count", &[("count", count)]);
    assert_eq!(["1", "2000"].map(|number| count(English, number)), ["One site", "2,000 sites"]);
    assert_eq!(count(Spanish, "20000"), "20\u{202f}000 sedes");
    let added = English.text("site-added", &[("site", "007")]);
    assert!(added.contains("007"), "{added}");
}

#[test]
fn numbers_read_as_in_a_newspaper_of_the_country() {
    assert_eq!([0, 999, 1000, 1_234_567].map(|n| English.number(n)), ["0", "999", "1,000", "1,234,567"]);
    let spanish = [999, 1234, 12_345, 1_234_567].map(|n| Spanish.number(n));
    assert_eq!(spanish, ["999", "1234", "12\u{202f}345", "1\u{202f}234\u{202f}567"]);
    assert_eq!((English.decimal(3.25), Spanish.decimal(12.0)), ("3.2".to_owned(), "12,0".to_owned()));
}

#[test]
fn sizes_and_durations_keep_two_figures() {
    let sizes = [0, 999, 1000, 1_550_000, 15_500_000, u64::MAX].map(|bytes| English.size(bytes));
    assert_eq!(
        sizes.map(|size| size.replace('\u{a0}', " ")),
        ["0 B", "999 B", "1.0 kB", "1.5 MB", "15 MB", "18446 PB"]
    );
    assert_eq!(Spanish.size(1_550_000), "1,5\u{a0}MB");
    let durations = [0, 59, 60, 3661, 90_000, 86_400].map(|seconds| English.duration(seconds));
    let durations = durations.map(|text| text.replace('\u{a0}', " "));
    assert_eq!(durations, ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h", "1 d"]);
}

#[test]
fn moments_say_their_zone() {
    let time = "2026-11-23T04:05:06Z".parse().unwrap();
    assert_eq!(English.moment(time), "2026-11-23 04:05 UTC");
    assert_eq!(Spanish.moment(time), "23/11/2026 04:05 UTC");
}
