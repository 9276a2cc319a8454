//! A path pattern of an operator: an accepted pattern stays inside an absolute directory.

#![no_main]

use std::path::Component;

use audiovault_agent_core::pattern::{Part, Pattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pattern) = Pattern::parse(text) {
        check(&pattern);
    }
    for pattern in Pattern::parse_list(text).unwrap_or_default() {
        check(&pattern);
    }
});

fn check(pattern: &Pattern) {
    let mut root = pattern.root().components();
    assert_eq!(root.next(), Some(Component::RootDir));
    assert!(root.all(|component| matches!(component, Component::Normal(_))), "{}", pattern.root().display());
    for parts in pattern.components() {
        let mut texts = parts.iter().filter_map(|part| match part {
            Part::Literal(literal) => Some(literal),
            Part::Place(_) => None,
        });
        assert!(texts.all(|text| !text.is_empty() && !text.contains(['/', '\0'])));
        assert!(!matches!(parts.as_slice(), [Part::Literal(name)] if name == ".."));
    }
    let again = Pattern::parse(&pattern.to_string());
    assert_eq!(again.as_ref(), Ok(pattern), "its text is another pattern");
}
