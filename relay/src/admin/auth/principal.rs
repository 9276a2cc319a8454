//! Who makes a request.

use std::net::IpAddr;

use audiovault_protocol::site::SiteId;

use crate::model::{
    name::Name,
    operator_events::{Actor, ActorKind},
    rights::{Permission, Rights, Role},
    secret::SecretDigest,
};

/// By what somebody has proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The cookie of a session.
    Session(SecretDigest),
    /// An API token.
    Token(SecretDigest),
}

/// A user or an API token that makes a request, with the rights of this moment.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The user's name or that of the token.
    pub name: Name,
    /// What it may do.
    pub rights: Rights,
    /// How it was proved. Streams that outlive their request ask [`super::Auth::principal`] again by it.
    pub via: Credential,
    /// The user who owns the API token.
    pub owner: Option<Name>,
    /// Where the request comes from.
    pub address: IpAddr,
}

impl Principal {
    /// The role.
    pub fn role(&self) -> Role {
        self.rights.role
    }

    /// Whether a site exists for this principal. To what it may not see, the answer is 404.
    pub fn may_see(&self, site: &SiteId) -> bool {
        self.rights.scope.holds(site)
    }

    /// Whether it may do that where it sees something at all.
    pub fn may(&self, permission: Permission) -> bool {
        self.rights.allow(permission)
    }

    /// The principal as operators' events name it.
    pub fn actor(&self) -> Actor {
        let kind = if self.is_user() { ActorKind::User } else { ActorKind::Token };
        let owner = self.owner.as_ref().map(ToString::to_string);
        Actor { owner, ..Actor::at(kind, self.name.as_str(), self.address) }
    }

    /// The user whose a new API token is: who makes it, or the owner of the token that makes it.
    pub fn owner_of_new_token(&self) -> Option<Name> {
        if self.is_user() { Some(self.name.clone()) } else { self.owner.clone() }
    }

    /// Whether this is a person at a browser, not a program with a token.
    pub fn is_user(&self) -> bool {
        matches!(self.via, Credential::Session(_))
    }
}
