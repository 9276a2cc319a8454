//! Who may look: users and their passwords, sessions of browsers, API tokens, and what each of them may do.
//!
//! A request becomes a [`Principal`] in one place ([`Auth::principal`]), from the database, every time: a change of a
//! user takes effect with the next request, whichever process made it. The gate in front of the admin routes
//! ([`crate::admin`]) lets nothing through without one.

mod cookie;
mod error;
mod login;
mod password;
mod principal;
mod same_origin;
mod setup;

pub use self::{
    cookie::SessionCookie,
    error::{LoginError, PasswordError},
    login::{Auth, NewSession, SESSION_IDLE, SESSION_LIFE},
    password::{MIN_PASSWORD_CHARS, Password, Passwords, WeakPassword},
    principal::{Credential, Principal},
    same_origin::{csrf_token, is_csrf_token, is_same_origin},
    setup::{SETUP_LIFE, offer_setup},
};
