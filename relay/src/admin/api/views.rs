//! Users and tokens as the API and the command line's `--json` show them.

use std::collections::BTreeSet;

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    model::{
        name::Name,
        rights::{Rights, Role},
    },
    store::{StoredToken, StoredUser},
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
