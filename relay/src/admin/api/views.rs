//! Users and tokens as the API and the command line's `--json` show them.

use std::collections::BTreeSet;

use audiovault_protocol::site::SiteId;
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

/// What somebody may do.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Rights)]
pub struct RightsView {
    /// The role.
    pub role: Role,
    /// The only sites that exist for them; null for all sites.
    #[schema(value_type = Option<BTreeSet<String>>)]
    pub sites: Option<BTreeSet<SiteId>>,
    /// Whether they may search for recordings and listen to them.
    pub playback: bool,
}

/// A user.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// The name to log in with.
    #[schema(value_type = String)]
    pub name: Name,
    /// What they may do.
    #[serde(flatten)]
    pub rights: RightsView,
    /// When the user was added.
    pub created: Timestamp,
    /// When the password was last set.
    pub password_set: Timestamp,
    /// When they last logged in.
    pub last_login: Option<Timestamp>,
}

/// An API token, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// What its holder may do.
    #[serde(flatten)]
    pub rights: RightsView,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// The user whose token it is, with whom it ends; null for one of the command line.
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
