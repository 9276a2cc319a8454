//! What several parts of the API share: users and tokens as the API and the command line's `--json` show them, schemas
//! of site names, and the limit on the number of events in one response.
//!
//! Schemas of site names and aliases are as strict as the types that parse the names, so a client that follows the
//! description is never refused for the spelling of a name.

use std::{borrow::Cow, collections::BTreeSet, ops::RangeInclusive};

use audiovault_common::http_error::HttpError;
use audiovault_protocol::identity::site::{MAX_ALIAS_LEN, RESERVED, SiteId};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

use crate::{
    admin::errors,
    model::account::{Name, Rights, Role},
    store::{Cursor, StoredToken, StoredUser},
};

/// The rights of a user or an API token.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Rights)]
pub struct RightsView {
    /// The role.
    pub role: Role,
    /// The only sites that the user or token may see; null for all sites.
    #[schema(value_type = Option<BTreeSet<String>>)]
    pub sites: Option<BTreeSet<SiteId>>,
    /// Whether the user or token may search for recordings and listen to them.
    pub playback: bool,
}

/// A user.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// The name to log in with.
    #[schema(value_type = String)]
    pub name: Name,
    /// The rights of the user.
    #[serde(flatten)]
    pub rights: RightsView,
    /// When the user was added.
    pub created: Timestamp,
    /// When the password was last set.
    pub password_set: Timestamp,
    /// When the user last logged in; null for never.
    pub last_login: Option<Timestamp>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenView {
    /// The name of the token.
    #[schema(value_type = String)]
    pub name: Name,
    /// The rights of the token.
    #[serde(flatten)]
    pub rights: RightsView,
    /// When the token was created.
    pub created: Timestamp,
    /// When the token expires; null for never.
    pub expires: Option<Timestamp>,
    /// When the token was last used, to the minute; null for never.
    pub last_used: Option<Timestamp>,
    /// The user who owns the token, which ends with the user; null for a token that was created on the command line.
    #[schema(value_type = Option<String>)]
    pub owner: Option<Name>,
}

impl From<&Rights> for RightsView {
    fn from(rights: &Rights) -> Self {
        Self { role: rights.role, sites: rights.scope.sites().cloned(), playback: rights.playback }
    }
}

impl From<&StoredUser> for UserView {
    fn from(user: &StoredUser) -> Self {
        Self {
            name: user.name.clone(),
            rights: (&user.rights).into(),
            created: user.created,
            password_set: user.password_set,
            last_login: user.last_login,
        }
    }
}

impl From<&StoredToken> for TokenView {
    fn from(token: &StoredToken) -> Self {
        Self {
            name: token.name.clone(),
            rights: (&token.rights).into(),
            created: token.created,
            expires: token.expires,
            last_used: token.last_used,
            owner: token.owner.clone(),
        }
    }
}

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

/// Number of events in one response if the request has no `limit`.
const USUAL_LIMIT: u32 = 100;
/// How many events one response can have.
const LIMITS: RangeInclusive<u32> = 1..=1000;

/// The number of events in one response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(u32);

impl Limit {
    /// The limit that the request asks for, or the default.
    ///
    /// # Errors
    /// [`HttpError`] with status 422 if the limit is out of bounds.
    pub(super) fn check(asked: Option<u32>) -> Result<Self, HttpError> {
        let limit = asked.unwrap_or(USUAL_LIMIT);
        if !LIMITS.contains(&limit) {
            return Err(errors::unprocessable("limit must be from 1 to 1000"));
        }
        Ok(Self(limit))
    }

    /// Number of events to read: one more than the limit, which shows whether there are older ones.
    pub(super) fn to_read(self) -> u32 {
        self.0 + 1
    }

    /// Cuts the events to the limit. Returns the cursor of the next response, or `None` if there are no more events.
    pub(super) fn cut<T>(self, events: &mut Vec<T>, place: impl Fn(&T) -> Cursor) -> Option<Cursor> {
        let more = events.len() > self.0 as usize;
        events.truncate(self.0 as usize);
        events.last().filter(|_| more).map(place)
    }
}
