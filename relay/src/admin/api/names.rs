//! Schemas of site names and aliases in the description of the API. They are as strict as the types that parse the
//! names, so a client that follows the description is never refused for the spelling of a name.

use std::borrow::Cow;

use audiovault_protocol::identity::site::{MAX_ALIAS_LEN, RESERVED};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

/// The name of a site, [`SiteId`](audiovault_protocol::identity::site::SiteId).
pub(super) struct SiteName;

/// Another name of a site, [`Alias`](audiovault_protocol::identity::site::Alias).
pub(super) struct AliasName;

impl PartialSchema for SiteName {
    fn schema() -> RefOr<Schema> {
        let pattern = format!("^(?!({})$)[a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?$", reserved(str::to_owned));
        let about = "a DNS label in lower case; not the first part of one of the relay's own addresses";
        text(&pattern, about, 63)
    }
}

impl ToSchema for SiteName {
    fn name() -> Cow<'static, str> {
        "SiteName".into()
    }
}

impl PartialSchema for AliasName {
    fn schema() -> RefOr<Schema> {
        let pattern = format!("^(?!({})$)[A-Za-z0-9][A-Za-z0-9._-]*$", reserved(either_case));
        let about = "letters, digits, dots, hyphens and underscores; not case-sensitive; not one of the relay's own \
                     addresses";
        text(&pattern, about, MAX_ALIAS_LEN)
    }
}

impl ToSchema for AliasName {
    fn name() -> Cow<'static, str> {
        "AliasName".into()
    }
}

fn text(pattern: &str, about: &str, longest: usize) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(about))
        .pattern(Some(pattern))
        .min_length(Some(1))
        .max_length(Some(longest))
        .into()
}

fn reserved(written: impl Fn(&str) -> String) -> String {
    RESERVED.iter().map(|name| written(&name.replace('.', "\\."))).collect::<Vec<_>>().join("|")
}

/// A pattern that matches a name in upper and lower case. The patterns of JSON Schema have no flag to ignore case.
fn either_case(name: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' => format!("[{letter}{}]", letter.to_ascii_uppercase()),
        other => other.to_string(),
    };
    name.chars().map(letter).collect()
}
