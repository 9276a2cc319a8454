//! The admin's `file:` patterns: a root directory, and below it directories with placeholders.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text does not begin with `file:` or `/`.
    #[error("the path {0:?} is not a file: pattern")]
    Scheme(String),
    /// The directory is not absolute.
    #[error("the path {0:?} must be absolute: write file:/absolute/directory")]
    Relative(String),
    /// The directory contains `..` or NUL.
    #[error("the path {0:?} must not contain .. or NUL")]
    Escape(String),
    /// A percent sign that begins no known placeholder.
    #[error("the path {0:?} has a % that is not a placeholder")]
    Placeholder(String),
}

impl PatternError {
    /// What to do about it, if this error knows.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Scheme(_) => Some("write file:/absolute/directory"),
            Self::Relative(_) | Self::Escape(_) => None,
            Self::Placeholder(_) => Some("use %YY %MM %ME %DD %HH %TE %SE %QU %AG, or %% for a percent sign"),
        }
    }
}

/// A part of a pattern that is filled in from the request or its date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `%YY`: the year in four digits.
    Year,
    /// `%MM`: the month in two digits.
    Month,
    /// `%ME`: the month as `Jan` to `Dec`.
    MonthName,
    /// `%DD`: the day in two digits.
    Day,
    /// `%HH`: the hour in two digits.
    Hour,
    /// `%TE`: the tenant; if the request names none, the pattern matches nothing.
    Tenant,
    /// `%SE`: the server; if the request names none, any directory matches.
    Server,
    /// `%QU`: the queue; if the request names none, any directory matches.
    Queue,
    /// `%AG`: the agent; if the request names none, any directory matches.
    Agent,
}

const PLACEHOLDERS: [(&str, Placeholder); 9] = [
    ("%YY", Placeholder::Year),
    ("%MM", Placeholder::Month),
    ("%ME", Placeholder::MonthName),
    ("%DD", Placeholder::Day),
    ("%HH", Placeholder::Hour),
    ("%TE", Placeholder::Tenant),
    ("%SE", Placeholder::Server),
    ("%QU", Placeholder::Queue),
    ("%AG", Placeholder::Agent),
];

impl Placeholder {
    /// Whether the placeholder may be filled in with this name.
    fn may_be(self, name: &str) -> bool {
        let digits = |len: usize| name.len() == len && name.bytes().all(|byte| byte.is_ascii_digit());
        match self {
            Self::Year => digits(4),
            Self::Month | Self::Day | Self::Hour => digits(2),
            Self::MonthName => name.len() == 3 && name.bytes().all(|byte| byte.is_ascii_alphabetic()),
            Self::Tenant | Self::Server | Self::Queue | Self::Agent => true,
        }
    }

    /// The precision of the date that this placeholder needs, if it is part of a date.
    pub fn granularity(self) -> Option<Granularity> {
        match self {
            Self::Year => Some(Granularity::Year),
            Self::Month | Self::MonthName => Some(Granularity::Month),
            Self::Day => Some(Granularity::Day),
            Self::Hour => Some(Granularity::Hour),
            Self::Tenant | Self::Server | Self::Queue | Self::Agent => None,
        }
    }
}

/// The finest part of a date that a pattern mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Granularity {
    /// Years.
    Year,
    /// Months.
    Month,
    /// Days.
    Day,
    /// Hours.
    Hour,
}

/// A part of one directory's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Fixed text.
    Literal(String),
    /// A placeholder that is filled in for each search.
    Place(Placeholder),
}

/// One path pattern: the literal directory before the first placeholder (the root), and the names after it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    root: PathBuf,
    components: Vec<Vec<Part>>,
}

impl Pattern {
    /// Parses one pattern: `file:/a/%YY`, `file:///a/%YY`, or a plain absolute path.
    ///
    /// # Errors
    /// [`PatternError`] if the text is not an absolute directory with known placeholders.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = text.trim();
        let path = match text.strip_prefix("file:") {
            Some(rest) => rest.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(rest),
            None if text.starts_with('/') => text,
            None => return Err(PatternError::Scheme(text.to_owned())),
        };
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(PatternError::Relative(text.to_owned()));
        }
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        if names.contains(&"..") || path.contains('\0') {
            return Err(PatternError::Escape(text.to_owned()));
        }
        let mut root = PathBuf::from("/");
        let mut components = Vec::new();
        for name in names {
            let parts = parse_name(name).ok_or_else(|| PatternError::Placeholder(text.to_owned()))?;
            match parts.as_slice() {
                [Part::Literal(literal)] if components.is_empty() => root.push(literal),
                _ => components.push(parts),
            }
        }
        Ok(Self { text: text.to_owned(), root, components })
    }

    /// Parses a comma-separated list, such as Uniloader's `--path`. A comma separates only if a new pattern begins
    /// after it, so that directories may have commas in their names.
    ///
    /// # Errors
    /// [`PatternError`] for the first pattern that cannot be used.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, PatternError> {
        let mut patterns: Vec<String> = Vec::new();
        for piece in text.split(',') {
            let starts = piece.trim_start().starts_with("file:") || piece.trim_start().starts_with('/');
            match patterns.last_mut() {
                Some(last) if !starts && !piece.trim().is_empty() => {
                    last.push(',');
                    last.push_str(piece);
                }
                _ if piece.trim().is_empty() => {}
                _ => patterns.push(piece.to_owned()),
            }
        }
        patterns.iter().map(|pattern| Self::parse(pattern)).collect()
    }

    /// The root directory. The agent touches nothing outside it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory names below the root.
    pub fn components(&self) -> &[Vec<Part>] {
        &self.components
    }

    /// Whether the pattern contains a placeholder.
    pub fn mentions(&self, placeholder: Placeholder) -> bool {
        self.places().any(|place| place == placeholder)
    }

    /// Whether tenants never share a directory: the whole name of one directory is `%TE`. Inside a longer name, the
    /// text after the tenant could be part of the tenant's name: `%TE-%QU` matches `acme-vip-400` for the tenant
    /// `acme` and for `acme-vip`.
    pub fn separates_tenants(&self) -> bool {
        self.components.iter().any(|parts| parts.as_slice() == [Part::Place(Placeholder::Tenant)])
    }

    /// Whether a tenant's directory of `other` may lie inside a tenant's directory of this pattern. A tenant that has
    /// the name of the directory in between would find recordings of another tenant: with `/rec/%TE` and
    /// `/rec/old/%TE`, the tenant `old` finds all recordings in `/rec/old/acme`.
    pub fn holds_tenants_of(&self, other: &Self) -> bool {
        let own = self.names();
        let others = other.names();
        let (Some(depth), Some(deeper)) = (tenant_at(&own), tenant_at(&others)) else { return false };
        deeper > depth && own.iter().zip(&others).take(depth + 1).all(|(own, other)| may_be_one(own, other))
    }

    /// The names of all directories, from `/` on.
    fn names(&self) -> Vec<Vec<Part>> {
        let root =
            self.root.iter().skip(1).map(|name| vec![Part::Literal(name.to_string_lossy().into_owned())]);
        root.chain(self.components.iter().cloned()).collect()
    }

    /// The finest part of a date in the pattern, if there is one.
    pub fn granularity(&self) -> Option<Granularity> {
        self.places().filter_map(Placeholder::granularity).max()
    }

    fn places(&self) -> impl Iterator<Item = Placeholder> {
        self.components.iter().flatten().filter_map(|part| match part {
            Part::Place(place) => Some(*place),
            Part::Literal(_) => None,
        })
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The index of the first directory whose name contains the tenant.
fn tenant_at(names: &[Vec<Part>]) -> Option<usize> {
    names.iter().position(|parts| parts.contains(&Part::Place(Placeholder::Tenant)))
}

/// Whether two directory names may be equal for some search.
fn may_be_one(one: &[Part], other: &[Part]) -> bool {
    match (one, other) {
        ([Part::Literal(one)], [Part::Literal(other)]) => one == other,
        ([Part::Literal(literal)], [Part::Place(place)])
        | ([Part::Place(place)], [Part::Literal(literal)]) => place.may_be(literal),
        _ => true,
    }
}

fn parse_name(name: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("%%") {
            literal.push('%');
            rest = after;
            continue;
        }
        let (word, place) = PLACEHOLDERS.iter().find(|(word, _)| rest.starts_with(word))?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Place(*place));
        rest = &rest[word.len()..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_what_stands_before_the_first_placeholder() {
        let pattern = Pattern::parse("file:/var/lib/freeswitch/recordings/%TE/archive/%YY/%ME/%DD").unwrap();
        assert_eq!(pattern.root(), Path::new("/var/lib/freeswitch/recordings"));
        assert_eq!(pattern.components().len(), 5);
        assert_eq!(pattern.granularity(), Some(Granularity::Day));
        assert!(pattern.mentions(Placeholder::Tenant) && !pattern.mentions(Placeholder::Hour));
        let flat = Pattern::parse("/var/spool/asterisk/monitor/").unwrap();
        assert_eq!((flat.root(), flat.granularity()), (Path::new("/var/spool/asterisk/monitor"), None));
    }

    #[test]
    fn placeholders_may_share_a_name() {
        let pattern = Pattern::parse("file:///rec/%YY-%MM/q%QU/100%%").unwrap();
        assert_eq!(pattern.root(), Path::new("/rec"));
        let month =
            [Part::Place(Placeholder::Year), Part::Literal("-".to_owned()), Part::Place(Placeholder::Month)];
        assert_eq!(pattern.components()[0], month);
        assert_eq!(pattern.components()[2], [Part::Literal("100%".to_owned())]);
    }

    #[test]
    fn a_tenant_whose_directory_may_hold_other_tenants_is_noticed() {
        let holds = |one: &str, other: &str| {
            Pattern::parse(one).unwrap().holds_tenants_of(&Pattern::parse(other).unwrap())
        };
        assert!(holds("/rec/%TE", "/rec/old/%TE") && holds("/rec/%TE/%YY", "/rec/%SE/%TE"));
        assert!(holds("/rec/%YY/%TE", "/rec/2024/archive/%TE") && holds("/%TE", "/rec/%TE"));
        assert!(!holds("/rec/old/%TE", "/rec/%TE"), "the other way round");
        assert!(
            !holds("/rec/%TE", "/rec/%TE/archive") && !holds("/rec/%TE", "/rec/%TE"),
            "the same directory"
        );
        assert!(!holds("/rec/%TE", "/other/old/%TE") && !holds("/rec/%YY/%TE", "/rec/old/archive/%TE"));
        assert!(!holds("/rec/%TE", "/rec/old") && !holds("/rec", "/rec/%TE"), "no tenant's own directories");
    }

    #[test]
    fn lists_are_split_where_a_pattern_starts() {
        let list = Pattern::parse_list("file:/a,file:/b/%YY-%MM, /c,d").unwrap();
        let roots: Vec<_> = list.iter().map(Pattern::root).collect();
        assert_eq!(roots, [Path::new("/a"), Path::new("/b"), Path::new("/c,d")]);
        assert!(Pattern::parse_list(" ,").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
        assert!(matches!(Pattern::parse("s3:/bucket"), Err(PatternError::Scheme(_))));
        assert!(matches!(Pattern::parse("recordings"), Err(PatternError::Scheme(_))));
        assert!(matches!(Pattern::parse("file:recordings"), Err(PatternError::Relative(_))));
        assert!(matches!(Pattern::parse("file://host/share"), Err(PatternError::Relative(_))));
        assert!(matches!(Pattern::parse("file:/a/../b"), Err(PatternError::Escape(_))));
        assert!(matches!(Pattern::parse("file:/a/%XX"), Err(PatternError::Placeholder(_))));
        assert!(matches!(Pattern::parse("file:/a/50%"), Err(PatternError::Placeholder(_))));
    }
}
