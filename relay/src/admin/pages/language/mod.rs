//! The texts of the pages in each language.

use std::sync::LazyLock;

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use fluent_langneg::{NegotiationStrategy, accepted_languages, negotiate_languages};
use unic_langid::LanguageIdentifier;

/// The argument that selects the plural form. Other arguments are texts: a name may consist of digits and must stay as
/// it is.
const COUNT: &str = "count";

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Spanish.
    Spanish,
}

static ENGLISH: LazyLock<FluentBundle<FluentResource>> =
    LazyLock::new(|| bundle(Language::English, include_str!("../../../../locales/en.ftl")));
static SPANISH: LazyLock<FluentBundle<FluentResource>> =
    LazyLock::new(|| bundle(Language::Spanish, include_str!("../../../../locales/es.ftl")));

impl Language {
    /// All languages.
    pub const ALL: [Self; 2] = [Self::English, Self::Spanish];

    /// The language's tag (BCP 47) in addresses, cookies and pages.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
        }
    }

    /// The language's name in the language itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Spanish => "Español",
        }
    }

    /// The language of a tag.
    pub fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// The available language that the browser prefers, from its `Accept-Language` (RFC 9110, section 12.5.4).
    pub fn preferred(accept_language: &str) -> Self {
        let asked = accepted_languages::parse(accept_language);
        let available = Self::ALL.map(Self::identifier);
        let fallback = Self::default().identifier();
        let found = negotiate_languages(&asked, &available, Some(&fallback), NegotiationStrategy::Lookup);
        let tag = found.first().map(|found| found.language.as_str().to_owned());
        tag.and_then(|tag| Self::of_tag(&tag)).unwrap_or_default()
    }

    /// The text of a key.
    pub fn text(self, key: &str, arguments: &[(&str, &str)]) -> String {
        let bundle = match self {
            Self::English => &ENGLISH,
            Self::Spanish => &SPANISH,
        };
        let Some(pattern) = bundle.get_message(key).and_then(|message| message.value()) else {
            tracing::error!(key, language = self.tag(), code = "page.text_missing", "a text is missing");
            return key.to_owned();
        };
        let mut named = FluentArgs::with_capacity(arguments.len());
        for (name, value) in arguments {
            match value.parse::<u64>() {
                Ok(number) if *name == COUNT => named.set(*name, number),
                Ok(_) | Err(_) => named.set(*name, *value),
            }
        }
        bundle.format_pattern(pattern, Some(&named), &mut Vec::new()).into_owned()
    }

    /// Whether there is a text for the key.
    pub fn has(self, key: &str) -> bool {
        match self {
            Self::English => ENGLISH.has_message(key),
            Self::Spanish => SPANISH.has_message(key),
        }
    }

    fn identifier(self) -> LanguageIdentifier {
        // Both tags are valid language identifiers, so this does not fail.
        self.tag().parse().unwrap_or_default()
    }
}

fn bundle(language: Language, text: &str) -> FluentBundle<FluentResource> {
    let mut bundle = FluentBundle::new_concurrent(vec![language.identifier()]);
    // The texts are inserted into HTML, where elements isolate text direction if needed.
    bundle.set_use_isolating(false);
    bundle.set_formatter(Some(match language {
        Language::English => |value, _| counted(Language::English, value),
        Language::Spanish => |value, _| counted(Language::Spanish, value),
    }));
    // The files are compiled into the program, and tests show that they have no errors.
    let resource = FluentResource::try_new(text.to_owned()).unwrap_or_else(|(resource, _)| resource);
    let _ = bundle.add_resource(resource);
    bundle
}

/// Formats a count like all other numbers of the pages.
fn counted(language: Language, value: &FluentValue<'_>) -> Option<String> {
    let FluentValue::Number(number) = value else { return None };
    Some(language.number(number.value as u64))
}

#[cfg(test)]
mod tests;
