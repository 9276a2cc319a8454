//! Authentication: users and their passwords, browser sessions, API tokens, and what each of them may do.
//!
//! Only [`Auth::principal`] turns a request into a [`Principal`]. It reads the database every time, so a change of a
//! user takes effect at the next request, whichever process made the change. The login check in front of the admin
//! routes ([`crate::admin`]) lets no request through that has no principal.

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
