//! The texts of the pages in each language, and numbers, sizes, durations and times in its notation.

use std::sync::LazyLock;

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use fluent_langneg::{NegotiationStrategy, accepted_languages, negotiate_languages};
use jiff::Timestamp;
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

impl Language {
    /// The decimal mark.
    fn decimal_mark(self) -> char {
        match self {
            Self::English => '.',
            Self::Spanish => ',',
        }
    }

    /// A whole number. Spanish separates groups of three digits with a narrow space, from five digits on.
    pub fn number(self, number: u64) -> String {
        let digits = number.to_string();
        let (mark, from) = match self {
            Self::English => (',', 4),
            Self::Spanish => ('\u{202f}', 5),
        };
        if digits.len() < from {
            return digits;
        }
        let mut text = String::with_capacity(digits.len() * 2);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(mark);
            }
            text.push(digit);
        }
        text
    }

    /// A size in bytes, in the largest unit in which it is at least 1. Units are powers of ten, as for disks.
    pub fn size(self, bytes: u64) -> String {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        let mut unit = 0;
        let mut tenths = u128::from(bytes) * 10;
        while tenths >= 10_000 && unit + 1 < UNITS.len() {
            tenths /= 1000;
            unit += 1;
        }
        let name = UNITS.get(unit).copied().unwrap_or_default();
        if unit == 0 || tenths >= 100 {
            return format!("{}\u{a0}{name}", tenths / 10);
        }
        format!("{}{}{}\u{a0}{name}", tenths / 10, self.decimal_mark(), tenths % 10)
    }

    /// A number with one decimal.
    pub fn decimal(self, number: f64) -> String {
        format!("{number:.1}").replace('.', &self.decimal_mark().to_string())
    }

    /// A duration in its two largest units. Both languages have the same abbreviations for them.
    pub fn duration(self, seconds: u64) -> String {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
        let Some(first) = UNITS.iter().position(|(length, _)| seconds >= *length) else {
            return "0\u{a0}s".to_owned();
        };
        let mut rest = seconds;
        let mut parts = Vec::new();
        for (length, name) in UNITS.iter().skip(first).take(2) {
            if rest >= *length {
                parts.push(format!("{}\u{a0}{name}", rest / length));
            }
            rest %= length;
        }
        parts.join(" ")
    }

    /// A time in UTC. It is shown until a script converts it to the browser's time zone.
    pub fn moment(self, time: Timestamp) -> String {
        let format = match self {
            Self::English => "%Y-%m-%d %H:%M UTC",
            Self::Spanish => "%d/%m/%Y %H:%M UTC",
        };
        time.strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests;
