//! Authentication: users and their passwords, browser sessions, API tokens, and what each of them may do.
//!
//! Only [`Auth::principal`] turns a request into a [`Principal`]. It reads the database every time, so a change of a
//! user takes effect at the next request, even if another process made the change. The login check in front of the admin
//! routes ([`crate::admin`]) lets no request through that has no principal.

mod login;
mod password;
mod same_origin;

use std::net::IpAddr;

use audiovault_protocol::identity::site::SiteId;

pub use self::{
    login::{
        Auth, LoginError, NewSession, SESSION_IDLE, SESSION_LIFE, SETUP_LIFE, SessionCookie, offer_setup,
    },
    password::{MIN_PASSWORD_CHARS, Password, PasswordError, Passwords, WeakPassword},
    same_origin::{csrf_token, is_csrf_token, is_same_origin},
};
use crate::model::{
    account::{Name, Permission, Rights, Role},
    operator_events::{Actor, ActorKind},
    secret::SecretDigest,
};

/// What proves who makes the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The cookie of a session.
    Session(SecretDigest),
    /// An API token.
    Token(SecretDigest),
}

/// A user or an API token that makes a request, with the rights that are in the database now.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The name of the user or of the token.
    pub name: Name,
    /// The rights of the user or token.
    pub rights: Rights,
    /// The credential of the request. Streams that outlive their request give it to [`Auth::principal`] again.
    pub via: Credential,
    /// The user who owns the API token.
    pub owner: Option<Name>,
    /// Where the request comes from.
    pub address: IpAddr,
}

impl Principal {
    /// The role of the user or token.
    pub fn role(&self) -> Role {
        self.rights.role
    }

    /// Whether the principal may see a site. For all other sites the response is 404.
    pub fn may_see(&self, site: &SiteId) -> bool {
        self.rights.scope.holds(site)
    }

    /// Whether the role allows this, for the sites that the principal may see.
    pub fn may(&self, permission: Permission) -> bool {
        self.rights.allow(permission)
    }

    /// The principal as it is named in the operators' events.
    pub fn actor(&self) -> Actor {
        let kind = if self.is_user() { ActorKind::User } else { ActorKind::Token };
        let owner = self.owner.as_ref().map(ToString::to_string);
        Actor { owner, ..Actor::at(kind, self.name.as_str(), self.address) }
    }

    /// The owner of a new API token that this principal makes: the user itself, or the owner of the API token that is
    /// used.
    pub fn owner_of_new_token(&self) -> Option<Name> {
        if self.is_user() { Some(self.name.clone()) } else { self.owner.clone() }
    }

    /// Whether this is a person at a browser, not a program with a token.
    pub fn is_user(&self) -> bool {
        matches!(self.via, Credential::Session(_))
    }
}
