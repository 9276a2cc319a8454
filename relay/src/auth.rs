//! Who may look: users and their passwords, sessions of browsers, API tokens, and what each of them may do.
//!
//! A request becomes a [`Principal`] in one place ([`Auth::principal`]), from the database, every time: a change of a
//! user takes effect with the next request, whichever process made it. The gate in front of the admin routes
//! ([`crate::admin`]) lets nothing through without one.

mod cookie;
mod error;
mod login;
mod name;
mod password;
mod principal;
mod rights;
mod same_origin;
mod secret;
mod setup;

pub use self::{
    cookie::SessionCookie,
    error::{LoginError, PasswordError},
    login::{Auth, NewSession, SESSION_IDLE, SESSION_LIFE},
    name::{Name, NameError},
    password::{MIN_PASSWORD_CHARS, Password, PasswordHash, Passwords, WeakPassword},
    principal::{Credential, Principal},
    rights::{Permission, Rights, Role, Scope, UnknownRole},
    same_origin::{csrf_token, is_csrf_token, is_same_origin},
    secret::{
        API_TOKEN_PREFIX, DAY, MAX_TOKEN_LIFE, Secret, SecretDigest, TOKEN_LIFE, parse_api_token,
        reveal_api_token, token_end,
    },
    setup::{SETUP_LIFE, offer_setup},
};
